"""C++ identifiers for layer names, and the check of names that a user gives.

A layer name is a module path such as ``model.layers.0.self_attn.q_proj``. It becomes an identifier, a folder name and
the name of an IP by one mapping that loses nothing: dots become underscores, and a hexadecimal number at the end says
which underscores were dots. Anything that is not letters, digits, single dots and single underscores (a path, an
operator, a quotation mark) is refused.
"""

from __future__ import annotations

import re

# Longest identifier: with its endings it must stay a file name, of at most 255 bytes on Linux, macOS and Windows.
MAX_LENGTH = 160
_PREFIX = "layer_"
_WORD = re.compile(r"[A-Za-z0-9]+([._][A-Za-z0-9]+)*")
_IDENTIFIER = re.compile(r"[A-Za-z]+[A-Za-z0-9]*(_[A-Za-z0-9]+)*")

# Keywords of C11 (ISO/IEC 9899:2011, 6.4.1) and C++20 (ISO/IEC 14882:2020, [lex.key] and [lex.digraph]), `main`, the
# namespaces and macros that the exported code meets, and the keywords of Verilog that an IP's name must not be
# (IEEE 1364-2005, annex B).
_C = """auto break case char const continue default do double else enum extern float for goto if inline int long
register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while"""
_CPP = """alignas alignof and and_eq asm bitand bitor bool catch char8_t char16_t char32_t class compl concept consteval
constexpr constinit const_cast co_await co_return co_yield decltype delete dynamic_cast explicit export false friend
mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public reinterpret_cast requires
static_assert static_cast template this thread_local throw true try typeid typename using virtual wchar_t xor xor_eq"""
_TAKEN = "main std hls codesign ap_int ap_uint linux unix i386 NULL EOF INFINITY NAN"
_VERILOG = """
always assign begin buf bufif0 bufif1 casex casez cell cmos config deassign defparam design disable edge end endcase
endconfig endfunction endgenerate endmodule endprimitive endspecify endtable endtask event force forever fork function
generate genvar highz0 highz1 ifnone incdir include initial inout input instance integer join large liblist library
localparam macromodule medium module nand negedge nmos nor notif0 notif1 output parameter pmos posedge primitive pull0
pull1 pulldown pullup rcmos real realtime reg release repeat rnmos rpmos rtran rtranif0 rtranif1 scalared
showcancelled small specify specparam strong0 strong1 supply0 supply1 table task time tran tranif0 tranif1 tri tri0
tri1 triand trior trireg use uwire vectored wait wand weak0 weak1 wire wor"""
RESERVED = frozenset(f"{_C} {_CPP} {_TAKEN} {_VERILOG}".split())


def identifier_of(layer: str) -> str:
    """The identifier of a layer name: the same name always gives the same one, and no two names share one.

    >>> identifier_of("model.layers.0.self_attn.q_proj")
    'layer_model_layers_0_self_attn_q_proj_x3a'
    >>> identifier_of("lm_head"), identifier_of("lm.head")
    ('layer_lm_head_x0', 'layer_lm_head_x1')

    Raises:
        ValueError: the name is not of letters, digits, single dots and single underscores, or is too long.
    """
    if not _WORD.fullmatch(layer):
        raise ValueError(
            f"a layer name must be letters and digits joined by single dots or underscores to become a C++ name, "
            f"not {layer!r}"
        )
    dots = 0
    for character in layer:
        if character in "._":
            dots = dots << 1 | (character == ".")
    made = f"{_PREFIX}{layer.replace('.', '_')}_x{dots:x}"
    if len(made) > MAX_LENGTH:
        raise ValueError(f"a layer name must give a C++ name of at most {MAX_LENGTH} letters, not {len(made)}: {layer}")
    return made


def layer_of(identifier: str) -> str:
    """The inverse of ``identifier_of``.

    >>> layer_of("layer_model_layers_0_self_attn_q_proj_x3a")
    'model.layers.0.self_attn.q_proj'

    Raises:
        ValueError: not an identifier that ``identifier_of`` makes.
    """
    body, _, digits = identifier.removeprefix(_PREFIX).rpartition("_x")
    words = body.split("_")
    if re.fullmatch("[0-9a-f]+", digits):
        mask = int(digits, 16)
        made = words[0]
        for place, word in enumerate(words[1:], start=2):
            made += ("." if mask >> (len(words) - place) & 1 else "_") + word
        if _WORD.fullmatch(made) and identifier_of(made) == identifier:
            return made
    raise ValueError(f"identifier must be one of a layer name, not {identifier!r}")


def checked_identifier(name: str, what: str) -> str:
    """``name``, given by a user, if it can stand in C++, Verilog and a file name.

    Args:
        name: letters, digits and single underscores, a letter first, none of ``RESERVED``.
        what: what the message calls it.

    Raises:
        ValueError: it cannot.
    """
    if not _IDENTIFIER.fullmatch(name) or len(name) > MAX_LENGTH:
        raise ValueError(
            f"{what} must be a C++ name (a letter, then letters, digits and single underscores, {MAX_LENGTH} at most), "
            f"not {name!r}"
        )
    if name in RESERVED:
        raise ValueError(f"{what} must not be a word that C++ or Verilog keeps for itself, not {name!r}")
    return name
