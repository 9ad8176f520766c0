"""The receivers of events; none knows another.

``posthog``                PostHog, through its SDK
``posthog_events``         our events as PostHog's
``posthog_values``         callers' metadata as JSON that PostHog can read
``posthog_delivery``       sending and retrying: from memory, else from the spool
``posthog_queue``          messages that wait in memory
``posthog_bisect``         sending a batch in halves, to find the message that is refused
``slack``                  Slack's webhook: what is sent, and when
``slack_messages``         the words of it
``sentry``                 one issue for each request that failed for good
``prometheus``             counters and histograms from events
``prometheus_gauges``      gauges from the guard's status
``opentelemetry``          spans
``opentelemetry_metrics``  meters
"""
