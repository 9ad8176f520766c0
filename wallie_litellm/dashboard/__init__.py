"""The operator's view: a page, an API and the orders that a person may give. See docs/dashboard.md."""
