import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openpali.text.masks import decode_mask_codes, encode_mask_codes
from openpali.text.tokenizer import Tokenizer

CODES = st.lists(st.integers(0, 127), min_size=16, max_size=16)


@given(CODES)
def test_codes_round_trip_through_text_and_tokens(tokenizer: Tokenizer, codes: list[int]) -> None:
    text = encode_mask_codes(codes)
    ids = tokenizer.encode(text)
    first = tokenizer.encode("<mask_token0>")[0]
    assert ids == [first + code for code in codes]
    assert decode_mask_codes(tokenizer.decode(ids)) == codes
    assert decode_mask_codes(text.replace(" ", "")) == codes


def test_masks_are_written_as_in_the_paper() -> None:
    assert encode_mask_codes([81] * 15 + [10]).endswith("<mask_token81> <mask_token10>")


@pytest.mark.parametrize("codes", [[1] * 15, [1] * 17, [128] + [1] * 15, [-1] + [1] * 15])
def test_wrong_codes_are_refused(codes: list[int]) -> None:
    with pytest.raises(ValueError, match="mask"):
        encode_mask_codes(codes)
    with pytest.raises(ValueError, match="mask"):
        decode_mask_codes(" ".join(f"<mask_token{code}>" for code in codes))


@given(
    st.text()
    | st.lists(st.sampled_from(["<mask_token1>", "<mask_token200>", "x", "<mask"]), max_size=20).map("".join)
)
def test_reading_raises_only_value_errors(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert len(decode_mask_codes(text)) == 16
