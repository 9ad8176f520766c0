"""One provider's limits: who may go now, who waits, in which order, and where the state of that lives.

``limiter``       the queue in front of one provider: order, timer, waking
``waiter``        a request in the queue, and when it gives up
``timer``         the one timer of a limiter
``registry``      all limiters of a guard, by name: a provider's, or a feature's of its own
``status``        what operators are shown of a limiter
``limits``        what a provider's account allows
``store``         what a limiter asks of a store, whichever it is
``memory_store``  the store in this process's memory
``listener``      what limiters report to the guard: changes of breakers, and thresholds that are reached
``accounting``    what every store keeps: calls under way, sums, and a meter for each limit
``quota_meter``   how far one limit is used, and when that is announced
``leased``        the store of a fleet: capacity leased from a server that all its workers share
``redis``         that server in Redis
"""
