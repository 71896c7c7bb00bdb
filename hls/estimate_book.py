"""PEs of vector and learned codebooks: ``vector_codebook_dot`` where its entries are integers, else what stands behind.

Exported grids are constants of integers, so they are that module (or ``vector_dot``, behind books that are memories).
Books that are loaded hold FP16: their PE is that of the products, with tables in front (``hls.estimate_tables``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hls.cpp_types import CppType
from hls.estimate_buffers import REGISTER_TABLE_BITS
from hls.estimate_products import PricedPe, products_pe
from hls.estimate_tables import table_figure
from hwmodel.unit_cost_design import design


@dataclass(frozen=True)
class Book:
    """A book of ``codebook.h``.

    Args:
        element: number that an element is.
        layers: bits of a code of each layer whose elements are added.
        dimension: elements of a code.
        loaded: written at run time.
    """

    element: CppType
    layers: tuple[int, ...]
    dimension: int
    loaded: bool

    @property
    def in_memory(self) -> bool:
        """Whether its tables are memories, which are counted with the arrays."""
        return self.loaded and max(self.layers) > REGISTER_TABLE_BITS


def book_of(made: CppType) -> Book:
    """A book by its C++ type.

    Raises:
        NotImplementedError: no such book.
    """
    if made.name == "residual_book":
        first, second = book_of(made.type(0)), book_of(made.type(1))
        return replace(first, layers=first.layers + second.layers)
    if made.name not in ("fixed_book", "loaded_book"):
        raise NotImplementedError(f"no PE looks codes up in {made.name}")
    loaded = made.name == "loaded_book"
    return Book(made.type(1), (made.number(0),), made.number(2 if loaded else 3, 1), loaded)


def book_pe(made: CppType) -> PricedPe:
    """What a row of codes takes, from ``codebook_arithmetic``.

    Codes along the outputs feed a sum for each of their elements: one module with as many accumulators.

    Raises:
        NotImplementedError: no module, or none for its numbers.
    """
    book, products = book_of(made.type(0)), made.type(1)
    along, lanes = bool(made.number(2)), made.number(3)
    activation = products.type(1)
    if products.name == "exact_products" and (book.element.name, activation.name) == ("int_number", "int_number"):
        return _integers(book, products, along=along, lanes=lanes)
    # an element is read once for each product
    inner = products_pe(products, lanes * len(book.layers))
    if book.in_memory:
        return inner
    entry = book.element.number(0)
    if book.element.name == "minifloat_number":
        entry = 1 + book.element.number(0) + book.element.number(1)
    return replace(inner, tables=table_figure(lanes, [(bits, entry) for bits in book.layers], loaded=book.loaded))


def _integers(book: Book, products: CppType, *, along: bool, lanes: int) -> PricedPe:
    """Integers on both sides; an unsigned one is a signed one of a bit more."""
    first, second = (*book.layers, 0)[:2]
    entry, activation = (one.number(0) + one.number(1, 0) for one in (book.element, products.type(1)))
    fields = {
        "DIMENSION": book.dimension, "CODES": lanes if along else lanes // book.dimension, "ENTRY_BITS": entry,
        "ACTIVATION_BITS": activation, "ALONG_OUTPUTS": int(along), "ACCUMULATOR_BITS": products.number(2),
    }  # fmt: skip
    outputs = book.dimension if along else 1
    if book.in_memory:
        return PricedPe(design("vector_dot", LAYERS=len(book.layers), **fields), outputs=outputs)
    one = design("vector_codebook_dot", CODE_BITS=first, RESIDUAL_BITS=second, PROGRAMMABLE=int(book.loaded), **fields)
    entries = book.dimension * sum(1 << bits for bits in book.layers)
    return PricedPe(one, outputs=outputs, stored_bits=entries * entry if book.loaded else 0)
