"""C++ types of generated configs taken apart: ``codesign::int_arithmetic<4, 8, false, 16, 18>``, name and arguments.

What estimates read of an arithmetic or of a stored value: the text that is compiled is the only thing that says which
hardware is meant, so it is what they read. Names lose their namespace; integers and booleans become Python's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_TOKEN = re.compile(r"\s*(?:(?P<word>[A-Za-z_][\w:]*)|(?P<number>-?\d+)|(?P<mark>[<>,]))")
_WIDTH_LAST = ("minifloat_value",)  # the fifth argument; by default sign, exponent and mantissa together
_FIXED_BITS = {"fp32_value": 32, "fp16_value": 16, "bf16_value": 16}


@dataclass(frozen=True)
class CppType:
    """A type: name without namespace, template arguments in order."""

    name: str
    arguments: tuple[CppType | int | bool, ...] = ()

    def number(self, index: int, default: int | None = None) -> int:
        """An argument that is an integer or a boolean.

        Raises:
            ValueError: there is none at ``index``, and no default.
        """
        if index < len(self.arguments):
            value = self.arguments[index]
            if isinstance(value, int):
                return int(value)
        elif default is not None:
            return default
        raise ValueError(f"argument {index} of {self.name} must be a number, not {self.arguments!r}")

    def type(self, index: int) -> CppType:
        """An argument that is a type.

        Raises:
            ValueError: there is none at ``index``.
        """
        value = self.arguments[index] if index < len(self.arguments) else None
        if isinstance(value, CppType):
            return value
        raise ValueError(f"argument {index} of {self.name} must be a type, not {self.arguments!r}")


@lru_cache(maxsize=1024)  # a layer's loops ask for the same types in every tile
def parse_type(text: str) -> CppType:
    """The type that ``text`` writes.

    >>> parse_type("codesign::field<codesign::fp16_value, 1, 64>")
    CppType(name='field', arguments=(CppType(name='fp16_value', arguments=()), 1, 64))

    Raises:
        ValueError: it is no type.
    """
    tokens: list[str] = []
    place = 0
    while place < len(text.rstrip()):
        match = _TOKEN.match(text, place)
        if match is None:
            raise ValueError(f"a C++ type must be names, numbers and <,>, not {text!r}")
        tokens.append(match.group().strip())
        place = match.end()
    stack: list[list[CppType | int | bool]] = [[]]
    names: list[str] = []
    for index, token in enumerate(tokens):
        if token == "<":
            last = stack[-1].pop() if stack[-1] else None
            if not isinstance(last, CppType) or last.arguments:
                raise ValueError(f"a template in a C++ type must have a name, not {text!r}")
            names.append(last.name)
            stack.append([])
        elif token == ">":
            if not names or tokens[index - 1] == ",":
                raise ValueError(f"brackets of a C++ type must match, not {text!r}")
            arguments = tuple(stack.pop())
            stack[-1].append(CppType(names.pop(), arguments))
        elif token == ",":
            if not names or tokens[index - 1] in "<,":
                raise ValueError(f"commas of a C++ type must stand between arguments, not {text!r}")
        elif token in ("true", "false"):
            stack[-1].append(token == "true")
        elif token.lstrip("-").isdigit():
            stack[-1].append(int(token))
        else:
            stack[-1].append(CppType(token.rpartition("::")[2]))
    if names or len(stack[0]) != 1 or not isinstance(stack[0][0], CppType):
        raise ValueError(f"a C++ type must be one name with its arguments, not {text!r}")
    return stack[0][0]


def value_bits(text: str) -> int:
    """Bits of a stored value (``fields.h``).

    >>> value_bits("codesign::minifloat_value<4, 3, 7, false, 8>"), value_bits("codesign::integer_value<3, false>")
    (8, 3)
    """
    made = parse_type(text)
    if made.name in _FIXED_BITS:
        return _FIXED_BITS[made.name]
    if made.name in _WIDTH_LAST:
        exponent, mantissa, signed = made.number(0), made.number(1), made.number(3, 1)
        return made.number(4, exponent + mantissa + signed)
    return made.number(0)
