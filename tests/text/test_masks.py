import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openpali.text.masks import MaskText
from openpali.text.tokenizer import Tokenizer

MASKS = MaskText()
CODES = st.lists(st.integers(0, 127), min_size=16, max_size=16)


@given(CODES)
def test_codes_round_trip_through_text_and_tokens(tokenizer: Tokenizer, codes: list[int]) -> None:
    text = MASKS.encode(codes)
    ids = tokenizer.encode(text)
    first = tokenizer.encode("<mask_token0>")[0]
    assert ids == [first + code for code in codes]
    assert MASKS.decode(tokenizer.decode(ids)) == codes
    assert MASKS.decode(text.replace(" ", "")) == codes


def test_masks_are_written_as_in_the_paper() -> None:
    assert MASKS.encode([81] * 15 + [10]).endswith("<mask_token81> <mask_token10>")


@pytest.mark.parametrize("codes", [[1] * 15, [1] * 17, [128] + [1] * 15, [-1] + [1] * 15])
def test_wrong_codes_are_refused(codes: list[int]) -> None:
    with pytest.raises(ValueError):
        MASKS.encode(codes)
    with pytest.raises(ValueError):
        MASKS.decode(" ".join(f"<mask_token{code}>" for code in codes))


@given(
    st.text()
    | st.lists(st.sampled_from(["<mask_token1>", "<mask_token200>", "x", "<mask"]), max_size=20).map("".join)
)
def test_reading_raises_only_value_errors(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert len(MASKS.decode(text)) == 16
