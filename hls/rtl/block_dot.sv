// Block dot products with shared scales: OCP MX (E8M0 scales, 32 elements) and NVFP4 (UE4M3 scales, 16 elements).
//
// LANES element pairs a cycle are summed exactly as integers; in the last cycle of a block the block's sum times the
// two scales is added, with one rounding, to a floating-point accumulator. A block takes BLOCK / LANES cycles: `first`
// marks its first cycle, `last` its last (both in one cycle if LANES = BLOCK); `clear` with `last` starts a new total.
// Scales are read in the last cycle and must be finite (E8M0 not 255).

// Sum over one block: MX minifloat elements. Units as in minifloat.sv. Combinational next state is `sum`.
module minifloat_block_sum #(
    parameter int EXPONENT_BITS = 2,
    parameter int MANTISSA_BITS = 1,
    parameter int LANES = 4,
    parameter int BLOCK = 32,
    localparam int ELEMENT_BITS = 1 + EXPONENT_BITS + MANTISSA_BITS,
    localparam int FIXED_BITS = 2 * (2**EXPONENT_BITS + MANTISSA_BITS) - 1,
    localparam int SUM_BITS = FIXED_BITS + $clog2(BLOCK)
) (
    input  logic                                 clk,
    input  logic                                 first,
    input  logic        [LANES*ELEMENT_BITS-1:0] weight,
    input  logic        [LANES*ELEMENT_BITS-1:0] activation,
    output logic signed [          SUM_BITS-1:0] sum
);
  wire [LANES*FIXED_BITS-1:0] products;
  genvar lane;
  for (lane = 0; lane < LANES; lane++) begin : lanes
    minifloat_product #(
        .WEIGHT_EXPONENT_BITS(EXPONENT_BITS),
        .WEIGHT_MANTISSA_BITS(MANTISSA_BITS),
        .ACTIVATION_EXPONENT_BITS(EXPONENT_BITS),
        .ACTIVATION_MANTISSA_BITS(MANTISSA_BITS)
    ) multiplier (
        .weight(weight[lane*ELEMENT_BITS+:ELEMENT_BITS]),
        .activation(activation[lane*ELEMENT_BITS+:ELEMENT_BITS]),
        .product(products[lane*FIXED_BITS+:FIXED_BITS])
    );
  end
  wire signed [FIXED_BITS+$clog2(LANES)-1:0] lane_sum;
  adder_tree #(.LANES(LANES), .WIDTH(FIXED_BITS)) tree (.terms(products), .sum(lane_sum));
  if (LANES == BLOCK) begin : at_once
    assign sum = lane_sum;
  end else begin : in_steps
    logic signed [SUM_BITS-1:0] partial;
    assign sum = (first ? SUM_BITS'(0) : partial) + SUM_BITS'(lane_sum);
    always_ff @(posedge clk) partial <= sum;
  end
endmodule

// Sum over one block of integer elements (MXINT8: two's complement in units of 1/64).
module int_block_sum #(
    parameter int ELEMENT_BITS = 8,
    parameter int LANES = 4,
    parameter int BLOCK = 32,
    localparam int SUM_BITS = 2 * ELEMENT_BITS + $clog2(BLOCK)
) (
    input  logic                                 clk,
    input  logic                                 first,
    input  logic        [LANES*ELEMENT_BITS-1:0] weight,
    input  logic        [LANES*ELEMENT_BITS-1:0] activation,
    output logic signed [          SUM_BITS-1:0] sum
);
  wire [LANES*2*ELEMENT_BITS-1:0] products;
  genvar lane;
  for (lane = 0; lane < LANES; lane++) begin : lanes
    int_multiplier #(.WEIGHT_BITS(ELEMENT_BITS), .ACTIVATION_BITS(ELEMENT_BITS)) multiplier (
        .weight(weight[lane*ELEMENT_BITS+:ELEMENT_BITS]),
        .activation(activation[lane*ELEMENT_BITS+:ELEMENT_BITS]),
        .product(products[lane*2*ELEMENT_BITS+:2*ELEMENT_BITS])
    );
  end
  wire signed [2*ELEMENT_BITS+$clog2(LANES)-1:0] lane_sum;
  adder_tree #(.LANES(LANES), .WIDTH(2 * ELEMENT_BITS)) tree (.terms(products), .sum(lane_sum));
  if (LANES == BLOCK) begin : at_once
    assign sum = lane_sum;
  end else begin : in_steps
    logic signed [SUM_BITS-1:0] partial;
    assign sum = (first ? SUM_BITS'(0) : partial) + SUM_BITS'(lane_sum);
    always_ff @(posedge clk) partial <= sum;
  end
endmodule

// MX block dot product into an FP32-like accumulator. EXPONENT_BITS = 0 means integer elements of 1 + MANTISSA_BITS
// bits in units of 2**(1 - MANTISSA_BITS) (MXINT8: MANTISSA_BITS = 7, units of 1/64).
module mx_block_dot #(
    parameter int EXPONENT_BITS = 2,
    parameter int MANTISSA_BITS = 1,
    parameter int LANES = 4,
    parameter int BLOCK = 32,
    parameter int ACCUMULATOR_EXPONENT_BITS = 8,
    parameter int ACCUMULATOR_MANTISSA_BITS = 23,
    localparam int ELEMENT_BITS = 1 + EXPONENT_BITS + MANTISSA_BITS
) (
    input  logic                                                         clk,
    input  logic                                                         clear,
    input  logic                                                         first,
    input  logic                                                         last,
    input  logic [                                 LANES*ELEMENT_BITS-1:0] weight,
    input  logic [                                 LANES*ELEMENT_BITS-1:0] activation,
    input  logic [                                                    7:0] weight_scale,
    input  logic [                                                    7:0] activation_scale,
    output logic [ACCUMULATOR_EXPONENT_BITS+ACCUMULATOR_MANTISSA_BITS:0] accumulator
);
  localparam bit INTEGER = EXPONENT_BITS == 0;
  localparam int SUM_BITS = (INTEGER ? 2 * ELEMENT_BITS : 2 * (2**EXPONENT_BITS + MANTISSA_BITS) - 1) + $clog2(BLOCK);
  // Exponent of one element's unit, of the E8M0 bias twice, and of the accumulator's smallest subnormal.
  localparam int UNIT = INTEGER ? 1 - MANTISSA_BITS : 2 - 2**(EXPONENT_BITS - (INTEGER ? 0 : 1)) - MANTISSA_BITS;
  localparam int OFFSET = 2 * UNIT - 2 * 127 - (2 - 2**(ACCUMULATOR_EXPONENT_BITS - 1) - ACCUMULATOR_MANTISSA_BITS);
  localparam int SHIFT_BITS = (ACCUMULATOR_EXPONENT_BITS > 9 ? ACCUMULATOR_EXPONENT_BITS : 9) + 2;
  wire signed [SUM_BITS-1:0] sum;
  if (INTEGER) begin : integer_elements
    int_block_sum #(.ELEMENT_BITS(ELEMENT_BITS), .LANES(LANES), .BLOCK(BLOCK)) block
        (.clk(clk), .first(first), .weight(weight), .activation(activation), .sum(sum));
  end else begin : float_elements
    minifloat_block_sum #(.EXPONENT_BITS(EXPONENT_BITS), .MANTISSA_BITS(MANTISSA_BITS), .LANES(LANES), .BLOCK(BLOCK))
        block (.clk(clk), .first(first), .weight(weight), .activation(activation), .sum(sum));
  end
  wire sign = sum[SUM_BITS-1];
  wire [SUM_BITS-1:0] magnitude = sign ? -sum : sum;
  wire [8:0] scale = {1'b0, weight_scale} + {1'b0, activation_scale};
  wire signed [SHIFT_BITS-1:0] shift = SHIFT_BITS'($signed({1'b0, scale})) + SHIFT_BITS'(OFFSET);
  wire [ACCUMULATOR_EXPONENT_BITS+ACCUMULATOR_MANTISSA_BITS:0] next;
  float_accumulate #(
      .MAGNITUDE_BITS(SUM_BITS),
      .SHIFT_BITS(SHIFT_BITS),
      .EXPONENT_BITS(ACCUMULATOR_EXPONENT_BITS),
      .MANTISSA_BITS(ACCUMULATOR_MANTISSA_BITS)
  ) adder (
      .accumulator(clear ? '0 : accumulator), .sign(sign), .magnitude(magnitude), .shift(shift), .next(next)
  );
  always_ff @(posedge clk) if (last) accumulator <= next;
endmodule

// NVFP4 block dot product: E2M1 elements, 16 a block; the scales' significands are multiplied into the block's sum.
module nvfp4_block_dot #(
    parameter int LANES = 4,
    parameter int BLOCK = 16,
    parameter int ACCUMULATOR_EXPONENT_BITS = 8,
    parameter int ACCUMULATOR_MANTISSA_BITS = 23
) (
    input  logic                                                         clk,
    input  logic                                                         clear,
    input  logic                                                         first,
    input  logic                                                         last,
    input  logic [                                              LANES*4-1:0] weight,
    input  logic [                                              LANES*4-1:0] activation,
    input  logic [                                                      6:0] weight_scale,
    input  logic [                                                      6:0] activation_scale,
    output logic [ACCUMULATOR_EXPONENT_BITS+ACCUMULATOR_MANTISSA_BITS:0] accumulator
);
  localparam int SUM_BITS = 2 * (4 + 1) - 1 + $clog2(BLOCK);
  localparam int MAGNITUDE_BITS = SUM_BITS + 8;  // two 4-bit scale significands
  // E2M1 counts in 2**-1 (bias 1, 1 mantissa bit), UE4M3 in 2**-9 (bias 7, 3 mantissa bits); each twice.
  localparam int OFFSET = 2 * (-1) + 2 * (-9) - (2 - 2**(ACCUMULATOR_EXPONENT_BITS - 1) - ACCUMULATOR_MANTISSA_BITS);
  localparam int SHIFT_BITS = (ACCUMULATOR_EXPONENT_BITS > 5 ? ACCUMULATOR_EXPONENT_BITS : 5) + 2;
  wire signed [SUM_BITS-1:0] sum;
  minifloat_block_sum #(.EXPONENT_BITS(2), .MANTISSA_BITS(1), .LANES(LANES), .BLOCK(BLOCK)) block
      (.clk(clk), .first(first), .weight(weight), .activation(activation), .sum(sum));
  wire scale_sign;
  wire [7:0] scale;
  wire [4:0] scale_shift;
  minifloat_multiplier #(
      .WEIGHT_EXPONENT_BITS(4), .WEIGHT_MANTISSA_BITS(3), .ACTIVATION_EXPONENT_BITS(4), .ACTIVATION_MANTISSA_BITS(3)
  ) scales (
      .weight({1'b0, weight_scale}), .activation({1'b0, activation_scale}),
      .sign(scale_sign), .significand(scale), .shift(scale_shift)
  );
  wire sign = sum[SUM_BITS-1];
  wire [SUM_BITS-1:0] absolute = sign ? -sum : sum;
  wire [MAGNITUDE_BITS-1:0] magnitude = absolute * scale;
  wire signed [SHIFT_BITS-1:0] shift = SHIFT_BITS'($signed({1'b0, scale_shift})) + SHIFT_BITS'(OFFSET);
  wire [ACCUMULATOR_EXPONENT_BITS+ACCUMULATOR_MANTISSA_BITS:0] next;
  float_accumulate #(
      .MAGNITUDE_BITS(MAGNITUDE_BITS),
      .SHIFT_BITS(SHIFT_BITS),
      .EXPONENT_BITS(ACCUMULATOR_EXPONENT_BITS),
      .MANTISSA_BITS(ACCUMULATOR_MANTISSA_BITS)
  ) adder (
      .accumulator(clear ? '0 : accumulator), .sign(sign), .magnitude(magnitude), .shift(shift), .next(next)
  );
  always_ff @(posedge clk) if (last) accumulator <= next;
endmodule
