import pickle

import pytest

from core import errors


def all_errors(base: type[errors.ArtistMindError]) -> list[type[errors.ArtistMindError]]:
    return [base] + [found for child in base.__subclasses__() for found in all_errors(child)]


@pytest.mark.parametrize("kind", all_errors(errors.ArtistMindError))
def test_every_error_survives_pickling(kind):
    error = pickle.loads(pickle.dumps(kind("무엇을 하세요", "field")))
    assert (type(error), error.message, error.param, str(error)) == (kind, "무엇을 하세요", "field", "무엇을 하세요")


def test_request_errors_are_the_callers_and_the_rest_is_not():
    assert all(400 <= kind.status < 500 for kind in all_errors(errors.RequestError))
    assert errors.StoreUnavailable.status == 503
