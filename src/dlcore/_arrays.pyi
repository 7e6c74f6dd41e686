from typing import Any

from numpy.typing import NDArray

def aligned_empty(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]: ...
