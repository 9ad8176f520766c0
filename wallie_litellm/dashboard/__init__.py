"""The operator's view: a page, an API and the actions that a person may take. See docs/dashboard.md.

``server``          on a port of its own, or as an application to mount
``app``             the application: routes, errors, security headers
``html_routes``     the routes for people
``page_responses``  what those routes share: forms, redirects, cookies, error pages
``api_routes``      the routes for programs
``experiment_routes``  those about experiments, and their answers
``request_routes``  the log of requests, for people and for programs
``provider_routes``  one provider, for people and for programs
``reload_route``    the API's route that takes up a changed configuration
``summary_route``   the one that says whether callers are hurt
``switch_routes``   the one that switches a decision off and on
``visitors``        who sends a request to them
``api_errors``      the API's errors, in one shape
``schemas``         the API's answers
``auth``            authentication, and protection of actions against cross-site requests
``sessions``        signed cookies
``throttle``        a limit on wrong tokens
``service``         the thread that answers the page's and the API's questions
``panel_feed``      the panels for all viewers, rendered once, and anew on every change
``panel_key``       what is rendered for viewers
``panel_version``   versions of the panels, and the digest of a status
``change_watch``    long polling: waits until the status changes
``render_process``  a process that renders the panels, as its parent uses it
``render_child``    that process itself
``render_pipe``     the messages between the two
``panels``          the panels, from a source of the present and the ledger
``single_flight``   a cached value that concurrent callers share
``source``          what the dashboard shows of the present: status, fleet, actions
``guard_source``    the present, from a guard in this process
``ledger_source``   the present, derived from a ledger
``ledger_reader``   the connection to the ledger
``queries``         the page's questions to the ledger
``recent_queries``  those about the last minutes and the last day
``recent_traffic``  their answers, and whether callers are hurt, as plain values
``provider_queries``  one provider's figures of a range
``health_strip``    a provider's health over 24 hours, by half hours
``impact``          what is wrong now, worst first, as values and as one sentence
``usage_ranges``    time ranges of the API, and the sums over them
``page_ranges``     time ranges of the page, free ones among them
``usage_tables``    use by provider, model, feature or user
``view_model``      everything that the page shows, as plain values
``provider_order``  providers in trouble first, and those that are not used
``vital_figures``   the figures of the last minutes at the top, against their targets
``rendering``       HTML from the templates
``html``            the page from the view model
``panel_values``    what several pages say of a provider
``provider_html``   the page of one provider
``request_html``    the pages of the log of requests
``experiment_view``  experiments on it: intervals as positions, effects as text
``chart_names``     names of time buckets and of marks
``chain_shares``    which share each member of a chain served
``chain_routes``    the API's route that says so
``series_queries``  points and marks of the charts
``series_routes``   the API's route of these
``charts``          positions of bars and lines
``formats``         numbers and times for people
``translations``    the page's texts
``impact_texts``   those about whether callers are hurt
``chart_texts``     those about charts and chains
``config_texts``    those about the configuration in force
``sink_texts``      those about sinks whose records wait
``budget_texts``    those about budgets
``routing_texts``   those about what decides where requests go
``request_texts``   those about the log of requests
``usage_texts``     those about use
``kpi_texts``       those about key figures
``metrics``         the metrics for Prometheus
"""
