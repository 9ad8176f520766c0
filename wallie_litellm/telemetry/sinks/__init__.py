"""The sinks, independent of each other.

``posthog``                PostHog, through its SDK
``posthog_events``         the guard's events as PostHog's
``posthog_values``         callers' metadata as JSON that PostHog can read
``posthog_delivery``       sending and retrying: from memory, else from the spool
``posthog_queue``          messages that wait in memory
``posthog_bisect``         sending a batch in halves, to find the message that is refused
``slack``                  Slack's webhook
``slack_outbox``           messages that wait, and when they are due
``slack_messages``         one alert as a message, or a digest of many
``webhook``                any address, by HTTP POST
``webhook_messages``       what is posted: a document, or a chat's message; and its signature
``sentry``                 one issue for each request that failed for good
``prometheus``             counters and histograms from events
``prometheus_metrics``     the metrics of a registry
``prometheus_gauges``      gauges from the guard's status
``opentelemetry``          spans
``opentelemetry_metrics``  meters
"""
