"""What tests of retrieval's kernels share: few rows and few numbers, so that there are ties."""

from hypothesis import strategies as st

ROWS = 12
ROW = st.integers(0, ROWS - 1)
GIVEN = st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0])  # few, so that there are ties; sums are exact
