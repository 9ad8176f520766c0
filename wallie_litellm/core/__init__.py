"""The arithmetic: numbers in, values out. Nothing here awaits, reads a clock, or imports LiteLLM or a store.

``dimensions``       what a limit can count
``limit_keys``       the names of limits: a dimension, and the models that it is for
``model_patterns``   which models a pattern of the configuration matches
``agent_users``      the user and the session that a coding agent names in one text
``demand``           what a request demands of the limits, and what is charged for its result
``prompt_size``      the size of what is sent: text, JSON, tokens and media, on any wire
``media_headers``    what a file's own bytes say of its size
``media_tokens``     images, recordings and documents in tokens
``vendor_counting``  how each vendor's limits count a call, with the sources
``learned_estimates``  an estimate of what a request will use, and what reported usage teaches
``cost_ratio``       what calls cost of their estimates, where that is more
``latency_histogram``  what calls have taken in the last ten minutes
``latency_score``    how fast a model answers at present, and how sure that is
``silence``          whether a model has fallen silent, by the calls that wait for it
``last_used``        a table with room for so many values
``recent_quantile``  a quantile of the values seen last
``recent_outcomes``  how many of the last calls failed
``token_estimate``   the text of an answer in tokens
``token_bucket``     a limit per minute
``sliding_window``   what the last 60 seconds used of a limit per minute
``daily_quota``      a limit per calendar day
``local_day``        the days of a time zone, in quarters of an hour
``weekly_shape``     what each day of the week uses, and by which hour
``month_forecast``   the same, of a limit that ends days from now
``cut_days``         what days would have used that a limit has ended
``day_forecast``     what a limit per day will have used, and when it is used up
``exhaustion_text``  such a forecast as one line
``exhaustion``       in how many seconds a limit per minute is used up
``thresholds``       when a limit that runs out is announced
``wait_queue``       the order in which waiting requests are served
``circuit_breaker``  when a provider or a model is not called, and when it is tried again
``overall_state``    the state of a provider's breaker and those of its models together
``served_models``    which models have served lately, at any worker of a fleet
``lease_server``     one provider's limits and breaker, leased to the workers of a fleet
``lease_terms``      what it decides with: grants, denials, claims, and what it has of each worker
``absent_workers``   workers that went on alone in an outage, and have not been heard of since
``earlier_state``    a state of the lease server that was lost, as its workers report it
``stated_limits``    the limits of the files of a fleet's workers
``lease_exchange``   the messages between a worker and the lease server
``outage``           what a worker uses while the lease server is away, and charges afterwards
``destinations``     the provider and the account of each entry of a model list
``provider_names``   the names of providers and accounts, from vendors, addresses and keys
``operations``       what a request asks of a provider, and what of it is counted in tokens
``attempt_result``   how an attempt and a request ended
``http_status``      whose fault an HTTP status is
``fault_domain``     whose failure an error is
``scopes``           the names of what a breaker or a pause holds for
``backoff``          the waits between retries
``hedge_budget``     how many hedges may be sent, and what they may cost
``recent_pace``      whether a call is late because most are
``retry_after``      the wait that a provider asks for
``limit_headers``    the headers in which vendors tell an account's limits
``limit_sightings``  what an answer's headers say of them
``limit_texts``      what the message of a 429 says of them
``admin_limits``     what vendors' administration APIs say of them
``learned_limits``   what is believed of a limit, from what answers say
``bill``             what an attempt used and cost
``budget``           the month's cost against its budget
``spending``         what has been spent and reserved of a budget in a day and a month
``spending_exchange``  the accounts of a fleet's budgets, and the messages about them
``iso_time``         times as ISO 8601
``loopback``         which addresses belong to this machine
``human_ask``          what a person asks in a prompt, without what agents put beside it
``prompt_complexity``  how complex a prompt is, and how much of a long one is looked at
``arms``             which arm of an experiment a user or session has
``confidence_sequence``  differences of means with intervals that hold at every look; a share's lower bound
``chi_square``       whether counts are divided as they should be
``validation``       checks of the numbers that callers pass
``scrubbing``        secrets masked, text and values made safe to record
"""
