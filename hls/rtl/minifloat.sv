// Minifloats ExMy: sign, E exponent bits, M mantissa bits, subnormals; every code is a number (FloatVariant.FINITE).
//
// A code's magnitude is significand * 2**(shift + 1 - bias - M) with significand < 2**(M+1) and shift = field - 1, or 0
// for field 0 (subnormal). So a product of two codes is an integer in units of 2**(2 - bias_w - M_w - bias_a - M_a),
// of FIXED_BITS = 2**E_w + 2**E_a + M_w + M_a - 1 bits with its sign: what the Kulisch accumulator adds, exactly.

// Code to sign, significand and left shift.
module minifloat_decode #(
    parameter int EXPONENT_BITS = 3,
    parameter int MANTISSA_BITS = 2
) (
    input  logic [EXPONENT_BITS+MANTISSA_BITS:0] code,
    output logic                                 sign,
    output logic [              MANTISSA_BITS:0] significand,
    output logic [            EXPONENT_BITS-1:0] shift
);
  wire [EXPONENT_BITS-1:0] field = code[EXPONENT_BITS+MANTISSA_BITS-1:MANTISSA_BITS];
  wire normal = |field;
  assign sign = code[EXPONENT_BITS+MANTISSA_BITS];
  assign shift = normal ? field - 1'b1 : '0;
  if (MANTISSA_BITS > 0) begin : with_mantissa
    assign significand = {normal, code[MANTISSA_BITS-1:0]};
  end else begin : without_mantissa
    assign significand = normal;
  end
endmodule

// Product as sign, significand product and shift sum: not normalised, exact.
module minifloat_multiplier #(
    parameter int WEIGHT_EXPONENT_BITS = 3,
    parameter int WEIGHT_MANTISSA_BITS = 2,
    parameter int ACTIVATION_EXPONENT_BITS = 3,
    parameter int ACTIVATION_MANTISSA_BITS = 2,
    localparam int SIGNIFICAND_BITS = WEIGHT_MANTISSA_BITS + ACTIVATION_MANTISSA_BITS + 2,
    localparam int SHIFT_BITS = (WEIGHT_EXPONENT_BITS > ACTIVATION_EXPONENT_BITS ? WEIGHT_EXPONENT_BITS
                                                                                : ACTIVATION_EXPONENT_BITS) + 1
) (
    input  logic [        WEIGHT_EXPONENT_BITS+WEIGHT_MANTISSA_BITS:0] weight,
    input  logic [ACTIVATION_EXPONENT_BITS+ACTIVATION_MANTISSA_BITS:0] activation,
    output logic                                                       sign,
    output logic [                               SIGNIFICAND_BITS-1:0] significand,
    output logic [                                     SHIFT_BITS-1:0] shift
);
  wire weight_sign, activation_sign;
  wire [WEIGHT_MANTISSA_BITS:0] weight_significand;
  wire [ACTIVATION_MANTISSA_BITS:0] activation_significand;
  wire [WEIGHT_EXPONENT_BITS-1:0] weight_shift;
  wire [ACTIVATION_EXPONENT_BITS-1:0] activation_shift;
  minifloat_decode #(.EXPONENT_BITS(WEIGHT_EXPONENT_BITS), .MANTISSA_BITS(WEIGHT_MANTISSA_BITS)) weight_decode
      (.code(weight), .sign(weight_sign), .significand(weight_significand), .shift(weight_shift));
  minifloat_decode #(.EXPONENT_BITS(ACTIVATION_EXPONENT_BITS), .MANTISSA_BITS(ACTIVATION_MANTISSA_BITS)) activation_decode
      (.code(activation), .sign(activation_sign), .significand(activation_significand), .shift(activation_shift));
  assign sign = weight_sign ^ activation_sign;
  assign significand = weight_significand * activation_significand;
  assign shift = SHIFT_BITS'(weight_shift) + SHIFT_BITS'(activation_shift);
endmodule

// Product as a two's complement integer of FIXED_BITS.
module minifloat_product #(
    parameter int WEIGHT_EXPONENT_BITS = 3,
    parameter int WEIGHT_MANTISSA_BITS = 2,
    parameter int ACTIVATION_EXPONENT_BITS = 3,
    parameter int ACTIVATION_MANTISSA_BITS = 2,
    localparam int FIXED_BITS = 2**WEIGHT_EXPONENT_BITS + 2**ACTIVATION_EXPONENT_BITS
                              + WEIGHT_MANTISSA_BITS + ACTIVATION_MANTISSA_BITS - 1
) (
    input  logic        [        WEIGHT_EXPONENT_BITS+WEIGHT_MANTISSA_BITS:0] weight,
    input  logic        [ACTIVATION_EXPONENT_BITS+ACTIVATION_MANTISSA_BITS:0] activation,
    output logic signed [                                     FIXED_BITS-1:0] product
);
  localparam int SIGNIFICAND_BITS = WEIGHT_MANTISSA_BITS + ACTIVATION_MANTISSA_BITS + 2;
  localparam int SHIFT_BITS = (WEIGHT_EXPONENT_BITS > ACTIVATION_EXPONENT_BITS ? WEIGHT_EXPONENT_BITS
                                                                              : ACTIVATION_EXPONENT_BITS) + 1;
  wire sign;
  wire [SIGNIFICAND_BITS-1:0] significand;
  wire [SHIFT_BITS-1:0] shift;
  minifloat_multiplier #(
      .WEIGHT_EXPONENT_BITS(WEIGHT_EXPONENT_BITS),
      .WEIGHT_MANTISSA_BITS(WEIGHT_MANTISSA_BITS),
      .ACTIVATION_EXPONENT_BITS(ACTIVATION_EXPONENT_BITS),
      .ACTIVATION_MANTISSA_BITS(ACTIVATION_MANTISSA_BITS)
  ) multiplier (
      .weight(weight), .activation(activation), .sign(sign), .significand(significand), .shift(shift)
  );
  // Negate before shifting: the negation is SIGNIFICAND_BITS wide instead of FIXED_BITS.
  wire signed [SIGNIFICAND_BITS:0] signed_significand = sign ? -$signed({1'b0, significand}) : $signed({1'b0, significand});
  wire signed [FIXED_BITS-1:0] extended = FIXED_BITS'(signed_significand);
  assign product = extended <<< shift;
endmodule

// Kulisch dot product: accumulator <= (clear ? 0 : accumulator) + sum of LANES exact products.
module minifloat_dot #(
    parameter int WEIGHT_EXPONENT_BITS = 3,
    parameter int WEIGHT_MANTISSA_BITS = 2,
    parameter int ACTIVATION_EXPONENT_BITS = 3,
    parameter int ACTIVATION_MANTISSA_BITS = 2,
    parameter int LANES = 1,
    parameter int ACCUMULATOR_BITS = 2**WEIGHT_EXPONENT_BITS + 2**ACTIVATION_EXPONENT_BITS
                                   + WEIGHT_MANTISSA_BITS + ACTIVATION_MANTISSA_BITS - 1 + 10,
    parameter bit INPUT_REGISTER = 0,
    parameter bit PRODUCT_REGISTER = 0,
    localparam int WEIGHT_BITS = 1 + WEIGHT_EXPONENT_BITS + WEIGHT_MANTISSA_BITS,
    localparam int ACTIVATION_BITS = 1 + ACTIVATION_EXPONENT_BITS + ACTIVATION_MANTISSA_BITS
) (
    input  logic                               clk,
    input  logic                               clear,
    input  logic        [LANES*WEIGHT_BITS-1:0] weight,
    input  logic    [LANES*ACTIVATION_BITS-1:0] activation,
    output logic signed  [ACCUMULATOR_BITS-1:0] accumulator
);
  localparam int FIXED_BITS = 2**WEIGHT_EXPONENT_BITS + 2**ACTIVATION_EXPONENT_BITS
                            + WEIGHT_MANTISSA_BITS + ACTIVATION_MANTISSA_BITS - 1;
  localparam int SUM_BITS = FIXED_BITS + $clog2(LANES);
  wire [LANES*WEIGHT_BITS-1:0] w;
  wire [LANES*ACTIVATION_BITS-1:0] a;
  wire clear_in, clear_sum;
  pipeline_register #(.WIDTH(LANES * WEIGHT_BITS), .ENABLE(INPUT_REGISTER)) weight_stage (.clk(clk), .d(weight), .q(w));
  pipeline_register #(.WIDTH(LANES * ACTIVATION_BITS), .ENABLE(INPUT_REGISTER)) activation_stage
      (.clk(clk), .d(activation), .q(a));
  pipeline_register #(.WIDTH(1), .ENABLE(INPUT_REGISTER)) clear_stage (.clk(clk), .d(clear), .q(clear_in));

  wire [LANES*FIXED_BITS-1:0] products, held;
  genvar lane;
  for (lane = 0; lane < LANES; lane++) begin : lanes
    minifloat_product #(
        .WEIGHT_EXPONENT_BITS(WEIGHT_EXPONENT_BITS),
        .WEIGHT_MANTISSA_BITS(WEIGHT_MANTISSA_BITS),
        .ACTIVATION_EXPONENT_BITS(ACTIVATION_EXPONENT_BITS),
        .ACTIVATION_MANTISSA_BITS(ACTIVATION_MANTISSA_BITS)
    ) multiplier (
        .weight(w[lane*WEIGHT_BITS+:WEIGHT_BITS]),
        .activation(a[lane*ACTIVATION_BITS+:ACTIVATION_BITS]),
        .product(products[lane*FIXED_BITS+:FIXED_BITS])
    );
  end
  pipeline_register #(.WIDTH(LANES * FIXED_BITS), .ENABLE(PRODUCT_REGISTER)) product_stage
      (.clk(clk), .d(products), .q(held));
  pipeline_register #(.WIDTH(1), .ENABLE(PRODUCT_REGISTER)) clear_product_stage (.clk(clk), .d(clear_in), .q(clear_sum));

  wire signed [SUM_BITS-1:0] sum;
  adder_tree #(.LANES(LANES), .WIDTH(FIXED_BITS)) tree (.terms(held), .sum(sum));
  always_ff @(posedge clk)
    accumulator <= (clear_sum ? ACCUMULATOR_BITS'(0) : accumulator) + ACCUMULATOR_BITS'(sum);
endmodule
