"""One provider's limits: which requests are admitted now, which wait, in which order, and where the state is kept.

``limiter``       the queue in front of one provider: admission, order, time
``limiter_state``  the queue, the limits and the breaker at one moment
``waiter``        a request in the queue, and when it gives up
``timer``         the one timer of a limiter
``registry``      all limiters of a guard, by name: those of providers, and those of features with limits
``models``        the limiters of models that are paused or fail
``recent_calls``  when each model was called last
``provider_health``  the state of a provider with its models, and the changes of it
``status``        a limiter's state as status reports show it
``configured``    what a configuration says of limiters, by name
``limits``        what a provider's account allows, and what it allows for some of its models
``limit_learning``  what vendors say of a provider's limits, and what of that is kept to
``limit_report``    all limits of a provider as reports show them
``learn_rules``     what the file says of learning them
``learned_model``   what is learned of one model at one account
``store``         what a limiter asks of any store, and its answers: reservation or denial
``memory_store``  the store in this process's memory
``listener``      what limiters report to the guard: changes of breakers, and thresholds that are reached
``demand_rate``   when limits per minute are used up, by what is asked of them
``accounting``    what every store keeps: calls in flight, and the limits that each of them passes
``scope_accounting``  the limits of the account, or of some of its models: buckets, counters, sums, meters
``quota_meter``   how far one limit is used, and which thresholds that has reached
``leased``        the store of a fleet: capacity leased from a server that all its workers share
``redis``         that server in Redis
"""
