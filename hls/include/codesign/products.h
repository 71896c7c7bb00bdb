// How products of two numbers are added: exact_products (minifloat.h) or rounded_products (float_accumulate.h). A number
// is a code as factor * 2**(shift + unit_exponent): int_number, minifloat_number, table_number, flint_number,
// olive_number.
#ifndef CODESIGN_PRODUCTS_H
#define CODESIGN_PRODUCTS_H

#include "codesign/float_accumulate.h"
#include "codesign/integer.h"
#include "codesign/minifloat.h"

#endif
