"""Types that several settings share, with their bounds."""

from typing import Annotated

from msgspec import Meta

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
CountOrNone = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Reward = Annotated[float, Meta(ge=-1000.0, le=1000.0)]
Rate = Annotated[float, Meta(gt=0.0, le=10.0)]
Logits = Annotated[float, Meta(gt=0.0, le=100.0)]
Milliseconds = Annotated[int, Meta(ge=0, extra={"unit": "ms"})]
