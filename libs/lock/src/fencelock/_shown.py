"""How a value that makes no sense is shown in an error: short, whatever it is."""

from typing import Final

SHOWN_MAX: Final = 300


def shown(value: object) -> str:
    """Its ``repr``, cut where it is too long; its type if it cannot be shown.

    An int of thousands of digits cannot, nor can an object whose ``repr`` raises.
    """
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 (foreign code, and the error to come says what is wrong)
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}… ({len(text)} characters)"
