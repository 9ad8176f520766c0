"""When limits per day and budgets are used up: by the weekly shape of what is on record, linear where there is none.

The arithmetic is in ``core``: ``weekly_shape``, ``day_forecast`` and, of limits per minute, ``exhaustion``.

``limits``      the limits per day that a guard has, and their names
``configured``  the limits per day that a file states
``forecasts``   what is known of the use of each, and its forecast at any moment
``alerts``      which forecasts are announced, once per limit and its day or month
``watch``       looks at the record and at the limits every minute
``backtest``    how good the forecasts of earlier days would have been
"""
