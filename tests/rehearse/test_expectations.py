import pytest

from wallie_litellm.rehearse.expectations import ALLOWED, Expectation, check_features, parse_expectation
from wallie_litellm.rehearse.plan import OptionError


@pytest.mark.parametrize(
    ("text", "expectation"),
    [
        ("answered>=99.5%", Expectation("answered>=99.5%", "answered", ">=", 0.995)),
        ("failed == 0", Expectation("failed == 0", "failed", "==", 0.0)),
        (
            "waited_p95[wallie-chat]<2s",
            Expectation("waited_p95[wallie-chat]<2s", "waited_p95", "<", 2.0, "wallie-chat"),
        ),
        ("cost<=$1.50", Expectation("cost<=$1.50", "cost", "<=", 1.5)),
        ("back<=1m", Expectation("back<=1m", "back", "<=", 60.0)),
    ],
)
def test_an_expectation_names_a_figure_a_comparison_and_a_value(text, expectation):
    assert parse_expectation(text) == expectation


@pytest.mark.parametrize(
    "text", ["answerd>=99%", "answered", "answered=>99%", "waited_p95<quick", "answered>=lots%", "cost<=nan"]
)
def test_what_cannot_be_understood_is_answered_with_what_is_allowed(text):
    with pytest.raises(OptionError, match="answered, fell_back") as caught:
        parse_expectation(text)
    assert ALLOWED in str(caught.value)


def test_a_share_is_no_more_than_all():
    with pytest.raises(OptionError, match="from 0% to 100%"):
        parse_expectation("answered>=99.5")


def test_an_expectation_of_a_feature_without_requests_is_refused_before_the_runs():
    expectations = [parse_expectation("answered[chat]>=99%"), parse_expectation("answered[chatt]>=99%")]
    with pytest.raises(OptionError, match="chatt is no feature of the rehearsal: chat, reports"):
        check_features(expectations, {"chat", "reports"})


def test_what_is_of_the_whole_rehearsal_is_of_no_feature():
    with pytest.raises(OptionError, match="back is of the whole rehearsal"):
        parse_expectation("back[wallie-chat]<1m")


def test_a_time_that_never_came_is_later_than_any():
    assert not parse_expectation("back<=1h").met_by(None)
