// Floating-point accumulation with one rounding for each addition, and the MACs built on it.
//
// The accumulator is a float of ACCUMULATOR_EXPONENT_BITS and ACCUMULATOR_MANTISSA_BITS with subnormals: FP32 is 8 and
// 23, FP16 5 and 10, anything else a narrower "FP32-like" register. Rounding is to nearest, ties to even. There are
// no infinities or NaNs: overflow saturates to the largest finite value, and RESERVED_TOP = 1 keeps the top exponent
// field free as IEEE 754 does. Inputs must be finite; the accumulator needs at least one mantissa bit.

// next = round(accumulator + (-1)**sign * magnitude * 2**shift), where shift counts from the accumulator's smallest
// subnormal. Combinational. A window holds the addend, fixed, with room above for an accumulator that is larger and
// MANTISSA + 3 bits below; what leaves the window at the bottom survives as a sticky bit.
module float_accumulate #(
    parameter int MAGNITUDE_BITS = 8,
    parameter int SHIFT_BITS = 6,
    parameter int EXPONENT_BITS = 8,
    parameter int MANTISSA_BITS = 23,
    parameter bit RESERVED_TOP = 1
) (
    input  logic        [EXPONENT_BITS+MANTISSA_BITS:0] accumulator,
    input  logic                                        sign,
    input  logic        [           MAGNITUDE_BITS-1:0] magnitude,
    input  logic signed [               SHIFT_BITS-1:0] shift,
    output logic        [EXPONENT_BITS+MANTISSA_BITS:0] next
);
  localparam int LOW = MANTISSA_BITS + 3;  // window bits below the addend
  localparam int LIFT = MAGNITUDE_BITS + 2;  // highest place of the accumulator's last bit, counted from the addend's
  localparam int WINDOW = LOW + LIFT + MANTISSA_BITS + 2;  // the last one for the carry
  localparam int COUNT_BITS = $clog2(WINDOW + 2);
  localparam int WIDE_SHIFT = SHIFT_BITS > EXPONENT_BITS + 1 ? SHIFT_BITS : EXPONENT_BITS + 1;
  localparam int X = (WIDE_SHIFT > COUNT_BITS + 1 ? WIDE_SHIFT : COUNT_BITS + 1) + 2;  // exponent arithmetic
  localparam int TOP_FIELD = RESERVED_TOP ? 2**EXPONENT_BITS - 2 : 2**EXPONENT_BITS - 1;

  wire held_sign;
  wire [MANTISSA_BITS:0] held;
  wire [EXPONENT_BITS-1:0] held_shift;
  minifloat_decode #(.EXPONENT_BITS(EXPONENT_BITS), .MANTISSA_BITS(MANTISSA_BITS)) decode
      (.code(accumulator), .sign(held_sign), .significand(held), .shift(held_shift));

  // How far the accumulator stands above the addend; beyond LIFT the addend is only a sticky bit, as it is when zero.
  wire signed [X-1:0] rise = X'($signed({1'b0, held_shift})) - X'(shift);
  wire lifted = (rise > LIFT) || (magnitude == '0);
  wire sunk = rise < -(LOW + MANTISSA_BITS + 1);
  wire [COUNT_BITS-1:0] right = lifted ? '0 : sunk ? COUNT_BITS'(WINDOW - 1) : COUNT_BITS'(LIFT - rise);
  // Placed below the carry, then shifted right; the bits that leave the window are collected.
  wire [WINDOW+MANTISSA_BITS-1:0] spread = {held, {(WINDOW - 1) {1'b0}}} >> right;
  wire [WINDOW-1:0] aligned = {1'b0, spread[WINDOW+MANTISSA_BITS-1:MANTISSA_BITS+1]};
  wire sticky = |spread[MANTISSA_BITS:0];

  wire [WINDOW:0] addend = {{(WINDOW - LOW - MAGNITUDE_BITS) {1'b0}}, magnitude, {(LOW + 1) {1'b0}}};
  wire [WINDOW:0] other = {aligned, sticky};
  wire subtract = sign ^ held_sign;
  wire [WINDOW+1:0] total = {1'b0, addend} + ({(WINDOW + 2) {subtract}} ^ {1'b0, other}) + {{(WINDOW + 1) {1'b0}}, subtract};
  wire negative = total[WINDOW+1];
  wire [WINDOW:0] absolute = negative ? -total[WINDOW:0] : total[WINDOW:0];

  // Place value of the window's lowest bit, and how far the leading one may rise before the result turns subnormal.
  wire signed [X-1:0] lowest = lifted ? X'($signed({1'b0, held_shift})) - X'(LOW + LIFT) : X'(shift) - X'(LOW);
  wire signed [X-1:0] room = lowest + X'(WINDOW - 1 - MANTISSA_BITS);
  wire [COUNT_BITS-1:0] zeros;
  leading_zeros #(.WIDTH(WINDOW + 1)) counter (.value(absolute), .zeros(zeros));
  wire subnormal = X'($signed({1'b0, zeros})) > room;
  wire [COUNT_BITS-1:0] left = subnormal ? room[COUNT_BITS-1:0] : zeros;
  wire [WINDOW:0] normalised = absolute << left;

  wire guard = normalised[WINDOW-MANTISSA_BITS-1];
  wire rest = |normalised[WINDOW-MANTISSA_BITS-2:0];
  wire up = guard & (rest | normalised[WINDOW-MANTISSA_BITS]);
  wire signed [X-1:0] field = normalised[WINDOW] ? room - X'($signed({1'b0, left})) + X'(1) : X'(0);
  wire [X+MANTISSA_BITS-1:0] rounded =
      {field, normalised[WINDOW-1-:MANTISSA_BITS]} + {{(X + MANTISSA_BITS - 1) {1'b0}}, up};
  wire overflow = $signed(rounded[X+MANTISSA_BITS-1:MANTISSA_BITS]) > $signed(X'(TOP_FIELD));
  localparam logic [EXPONENT_BITS+MANTISSA_BITS-1:0] LARGEST = ((EXPONENT_BITS + MANTISSA_BITS)'(TOP_FIELD) << MANTISSA_BITS)
                                                             | (EXPONENT_BITS + MANTISSA_BITS)'((1 << MANTISSA_BITS) - 1);
  assign next = {(sign ^ negative) & |absolute, overflow ? LARGEST : rounded[EXPONENT_BITS+MANTISSA_BITS-1:0]};
endmodule

// MAC of two floats: accumulator <= round((clear ? 0 : accumulator) + weight * activation). Biases are those of IEEE
// 754, 2**(E-1) - 1. FP16: E5M10 x E5M10 (finite inputs).
module float_mac #(
    parameter int WEIGHT_EXPONENT_BITS = 5,
    parameter int WEIGHT_MANTISSA_BITS = 10,
    parameter int ACTIVATION_EXPONENT_BITS = 5,
    parameter int ACTIVATION_MANTISSA_BITS = 10,
    parameter int ACCUMULATOR_EXPONENT_BITS = 8,
    parameter int ACCUMULATOR_MANTISSA_BITS = 23,
    parameter bit RESERVED_TOP = 1,
    parameter bit INPUT_REGISTER = 0,
    parameter bit PRODUCT_REGISTER = 0
) (
    input  logic                                                           clk,
    input  logic                                                           clear,
    input  logic [          WEIGHT_EXPONENT_BITS+WEIGHT_MANTISSA_BITS:0] weight,
    input  logic [  ACTIVATION_EXPONENT_BITS+ACTIVATION_MANTISSA_BITS:0] activation,
    output logic [ACCUMULATOR_EXPONENT_BITS+ACCUMULATOR_MANTISSA_BITS:0] accumulator
);
  localparam int WEIGHT_BITS = 1 + WEIGHT_EXPONENT_BITS + WEIGHT_MANTISSA_BITS;
  localparam int ACTIVATION_BITS = 1 + ACTIVATION_EXPONENT_BITS + ACTIVATION_MANTISSA_BITS;
  localparam int PRODUCT_BITS = WEIGHT_MANTISSA_BITS + ACTIVATION_MANTISSA_BITS + 2;
  localparam int SUM_BITS = (WEIGHT_EXPONENT_BITS > ACTIVATION_EXPONENT_BITS ? WEIGHT_EXPONENT_BITS
                                                                            : ACTIVATION_EXPONENT_BITS) + 1;
  // Exponent of the product's unit minus that of the accumulator's: (1 - bias_w - M_w) + (1 - bias_a - M_a) - (1 - bias - M)
  localparam int OFFSET = (2 - 2**(WEIGHT_EXPONENT_BITS - 1) - WEIGHT_MANTISSA_BITS)
                        + (2 - 2**(ACTIVATION_EXPONENT_BITS - 1) - ACTIVATION_MANTISSA_BITS)
                        - (2 - 2**(ACCUMULATOR_EXPONENT_BITS - 1) - ACCUMULATOR_MANTISSA_BITS);
  localparam int SHIFT_BITS = (ACCUMULATOR_EXPONENT_BITS > SUM_BITS ? ACCUMULATOR_EXPONENT_BITS : SUM_BITS) + 3;
  wire [WEIGHT_BITS-1:0] w;
  wire [ACTIVATION_BITS-1:0] a;
  wire clear_in, clear_sum;
  pipeline_register #(.WIDTH(WEIGHT_BITS), .ENABLE(INPUT_REGISTER)) weight_stage (.clk(clk), .d(weight), .q(w));
  pipeline_register #(.WIDTH(ACTIVATION_BITS), .ENABLE(INPUT_REGISTER)) activation_stage (.clk(clk), .d(activation), .q(a));
  pipeline_register #(.WIDTH(1), .ENABLE(INPUT_REGISTER)) clear_stage (.clk(clk), .d(clear), .q(clear_in));
  wire sign;
  wire [PRODUCT_BITS-1:0] significand;
  wire [SUM_BITS-1:0] sum;
  minifloat_multiplier #(
      .WEIGHT_EXPONENT_BITS(WEIGHT_EXPONENT_BITS),
      .WEIGHT_MANTISSA_BITS(WEIGHT_MANTISSA_BITS),
      .ACTIVATION_EXPONENT_BITS(ACTIVATION_EXPONENT_BITS),
      .ACTIVATION_MANTISSA_BITS(ACTIVATION_MANTISSA_BITS)
  ) multiplier (
      .weight(w), .activation(a), .sign(sign), .significand(significand), .shift(sum)
  );
  wire [1+PRODUCT_BITS+SUM_BITS-1:0] held;
  pipeline_register #(.WIDTH(1 + PRODUCT_BITS + SUM_BITS), .ENABLE(PRODUCT_REGISTER)) product_stage
      (.clk(clk), .d({sign, significand, sum}), .q(held));
  pipeline_register #(.WIDTH(1), .ENABLE(PRODUCT_REGISTER)) clear_product_stage (.clk(clk), .d(clear_in), .q(clear_sum));
  wire signed [SHIFT_BITS-1:0] shift = SHIFT_BITS'($signed({1'b0, held[SUM_BITS-1:0]})) + SHIFT_BITS'(OFFSET);
  wire [ACCUMULATOR_EXPONENT_BITS+ACCUMULATOR_MANTISSA_BITS:0] next;
  float_accumulate #(
      .MAGNITUDE_BITS(PRODUCT_BITS),
      .SHIFT_BITS(SHIFT_BITS),
      .EXPONENT_BITS(ACCUMULATOR_EXPONENT_BITS),
      .MANTISSA_BITS(ACCUMULATOR_MANTISSA_BITS),
      .RESERVED_TOP(RESERVED_TOP)
  ) adder (
      .accumulator(clear_sum ? '0 : accumulator),
      .sign(held[PRODUCT_BITS+SUM_BITS]),
      .magnitude(held[SUM_BITS+:PRODUCT_BITS]),
      .shift(shift),
      .next(next)
  );
  always_ff @(posedge clk) accumulator <= next;
endmodule

// MAC of a two's complement weight and an FP16 activation (finite), as FIGNA, HPCA 2024, multiplies: no conversion
// of the weight, the integer significand product is exact; one rounding into the floating-point accumulator.
module float_int_mac #(
    parameter int WEIGHT_BITS = 4,
    parameter int ACCUMULATOR_EXPONENT_BITS = 8,
    parameter int ACCUMULATOR_MANTISSA_BITS = 23,
    parameter bit INPUT_REGISTER = 0
) (
    input  logic                                                         clk,
    input  logic                                                         clear,
    input  logic signed [                               WEIGHT_BITS-1:0] weight,
    input  logic [                                                 15:0] activation,
    output logic [ACCUMULATOR_EXPONENT_BITS+ACCUMULATOR_MANTISSA_BITS:0] accumulator
);
  localparam int OFFSET = (2 - 2**4 - 10) - (2 - 2**(ACCUMULATOR_EXPONENT_BITS - 1) - ACCUMULATOR_MANTISSA_BITS);
  localparam int SHIFT_BITS = (ACCUMULATOR_EXPONENT_BITS > 5 ? ACCUMULATOR_EXPONENT_BITS : 5) + 3;
  wire signed [WEIGHT_BITS-1:0] w;
  wire [15:0] a;
  wire clear_in;
  pipeline_register #(.WIDTH(WEIGHT_BITS), .ENABLE(INPUT_REGISTER)) weight_stage (.clk(clk), .d(weight), .q(w));
  pipeline_register #(.WIDTH(16), .ENABLE(INPUT_REGISTER)) activation_stage (.clk(clk), .d(activation), .q(a));
  pipeline_register #(.WIDTH(1), .ENABLE(INPUT_REGISTER)) clear_stage (.clk(clk), .d(clear), .q(clear_in));
  wire activation_sign;
  wire [10:0] significand;
  wire [4:0] activation_shift;
  minifloat_decode #(.EXPONENT_BITS(5), .MANTISSA_BITS(10)) decode
      (.code(a), .sign(activation_sign), .significand(significand), .shift(activation_shift));
  wire [WEIGHT_BITS-1:0] absolute = w[WEIGHT_BITS-1] ? -w : w;  // 2**(WEIGHT_BITS-1) fits unsigned
  wire [WEIGHT_BITS+10:0] magnitude = absolute * significand;
  wire signed [SHIFT_BITS-1:0] shift = SHIFT_BITS'($signed({1'b0, activation_shift})) + SHIFT_BITS'(OFFSET);
  wire [ACCUMULATOR_EXPONENT_BITS+ACCUMULATOR_MANTISSA_BITS:0] next;
  float_accumulate #(
      .MAGNITUDE_BITS(WEIGHT_BITS + 11),
      .SHIFT_BITS(SHIFT_BITS),
      .EXPONENT_BITS(ACCUMULATOR_EXPONENT_BITS),
      .MANTISSA_BITS(ACCUMULATOR_MANTISSA_BITS)
  ) adder (
      .accumulator(clear_in ? '0 : accumulator),
      .sign(w[WEIGHT_BITS-1] ^ activation_sign),
      .magnitude(magnitude),
      .shift(shift),
      .next(next)
  );
  always_ff @(posedge clk) accumulator <= next;
endmodule
