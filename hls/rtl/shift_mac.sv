// Formats that decode to a small integer and a shift, and the MACs that multiply the integers and add the shifts:
// flint and power of two (ANT, Guo et al., MICRO 2022, section 4), outlier-victim pairs (OliVe, Guo et al., ISCA 2023,
// sections 3.1-3.3), and Tender's accumulator with its one-bit shift (Lee et al., ISCA 2024, section IV).

// Unsigned flint of BITS bits: a leading zero says integer; after a leading one, the number of zeros that follow is
// the exponent and what lies below the next one the mantissa. The number is value << shift with value < 2**(BITS-1).
module flint_decode #(
    parameter int BITS = 3,
    localparam int SHIFT_BITS = $clog2(BITS + 1)
) (
    input  logic [      BITS-1:0] code,
    output logic [      BITS-2:0] value,
    output logic [SHIFT_BITS-1:0] shift
);
  wire [BITS-2:0] rest = code[BITS-2:0];
  wire [SHIFT_BITS-1:0] zeros;
  leading_zeros #(.WIDTH(BITS - 1)) counter (.value(rest), .zeros(zeros[$clog2(BITS)-1:0]));
  if (SHIFT_BITS > $clog2(BITS)) begin : pad
    assign zeros[SHIFT_BITS-1] = 1'b0;
  end
  // The value is (1 + fraction) * 2**(BITS - 1 + zeros). rest, shifted up by zeros, is the fraction with its leading
  // one at BITS - 2: that one is worth 2**(BITS - 1 + zeros), so the integer counts in 2**(zeros + 1).
  // All zeros behind the leading one means one place more: 2**(BITS - 1 + (BITS - 1)).
  wire none = ~|rest;
  wire [BITS-2:0] aligned = rest << zeros;
  always_comb begin
    if (!code[BITS-1]) begin
      value = rest;
      shift = '0;
    end else begin
      value = none ? {1'b1, {(BITS - 2) {1'b0}}} : aligned;
      shift = zeros + 1'b1;
    end
  end
endmodule

// Sign and unsigned flint of BITS - 1 bits, times a two's complement activation.
module flint_int_dot #(
    parameter int BITS = 4,
    parameter int ACTIVATION_BITS = 8,
    parameter int LANES = 1,
    parameter int ACCUMULATOR_BITS = 2 * BITS + ACTIVATION_BITS + 7
) (
    input  logic                               clk,
    input  logic                               clear,
    input  logic              [LANES*BITS-1:0] weight,
    input  logic   [LANES*ACTIVATION_BITS-1:0] activation,
    output logic signed [ACCUMULATOR_BITS-1:0] accumulator
);
  localparam int MAGNITUDE_BITS = BITS - 1;
  localparam int MAX_SHIFT = BITS - 1;
  localparam int PRODUCT_BITS = MAGNITUDE_BITS + ACTIVATION_BITS;
  localparam int FIXED_BITS = PRODUCT_BITS + MAX_SHIFT;
  wire [LANES*FIXED_BITS-1:0] terms;
  genvar lane;
  for (lane = 0; lane < LANES; lane++) begin : lanes
    wire [MAGNITUDE_BITS-2:0] value;
    wire [$clog2(MAGNITUDE_BITS+1)-1:0] shift;
    flint_decode #(.BITS(MAGNITUDE_BITS)) decode
        (.code(weight[lane*BITS+:MAGNITUDE_BITS]), .value(value), .shift(shift));
    wire signed [MAGNITUDE_BITS-1:0] factor = weight[lane*BITS+BITS-1] ? -$signed({1'b0, value}) : $signed({1'b0, value});
    wire signed [ACTIVATION_BITS-1:0] a = $signed(activation[lane*ACTIVATION_BITS+:ACTIVATION_BITS]);
    wire signed [PRODUCT_BITS-1:0] product = factor * a;
    wire signed [FIXED_BITS-1:0] extended = FIXED_BITS'(product);
    assign terms[lane*FIXED_BITS+:FIXED_BITS] = extended <<< shift;
  end
  wire signed [FIXED_BITS+$clog2(LANES)-1:0] sum;
  adder_tree #(.LANES(LANES), .WIDTH(FIXED_BITS)) tree (.terms(terms), .sum(sum));
  always_ff @(posedge clk)
    accumulator <= (clear ? ACCUMULATOR_BITS'(0) : accumulator) + ACCUMULATOR_BITS'(sum);
endmodule

// Two signed flints of BITS bits: the integers are multiplied and the shifts added (ANT's PE).
module flint_flint_dot #(
    parameter int BITS = 4,
    parameter int LANES = 1,
    parameter int ACCUMULATOR_BITS = 4 * BITS + 8
) (
    input  logic                               clk,
    input  logic                               clear,
    input  logic              [LANES*BITS-1:0] weight,
    input  logic              [LANES*BITS-1:0] activation,
    output logic signed [ACCUMULATOR_BITS-1:0] accumulator
);
  localparam int MAGNITUDE_BITS = BITS - 1;
  localparam int SHIFT_BITS = $clog2(MAGNITUDE_BITS + 1) + 1;
  localparam int PRODUCT_BITS = 2 * (MAGNITUDE_BITS - 1);
  localparam int FIXED_BITS = PRODUCT_BITS + 1 + 2 * (BITS - 1);
  wire [LANES*FIXED_BITS-1:0] terms;
  genvar lane;
  for (lane = 0; lane < LANES; lane++) begin : lanes
    wire [MAGNITUDE_BITS-2:0] weight_value, activation_value;
    wire [SHIFT_BITS-2:0] weight_shift, activation_shift;
    flint_decode #(.BITS(MAGNITUDE_BITS)) weight_decode
        (.code(weight[lane*BITS+:MAGNITUDE_BITS]), .value(weight_value), .shift(weight_shift));
    flint_decode #(.BITS(MAGNITUDE_BITS)) activation_decode
        (.code(activation[lane*BITS+:MAGNITUDE_BITS]), .value(activation_value), .shift(activation_shift));
    wire sign = weight[lane*BITS+BITS-1] ^ activation[lane*BITS+BITS-1];
    wire [PRODUCT_BITS-1:0] product = weight_value * activation_value;
    wire signed [PRODUCT_BITS:0] signed_product = sign ? -$signed({1'b0, product}) : $signed({1'b0, product});
    wire [SHIFT_BITS-1:0] shift = {1'b0, weight_shift} + {1'b0, activation_shift};
    wire signed [FIXED_BITS-1:0] extended = FIXED_BITS'(signed_product);
    assign terms[lane*FIXED_BITS+:FIXED_BITS] = extended <<< shift;
  end
  wire signed [FIXED_BITS+$clog2(LANES)-1:0] sum;
  adder_tree #(.LANES(LANES), .WIDTH(FIXED_BITS)) tree (.terms(terms), .sum(sum));
  always_ff @(posedge clk)
    accumulator <= (clear ? ACCUMULATOR_BITS'(0) : accumulator) + ACCUMULATOR_BITS'(sum);
endmodule

// One OliVe pair (low nibble first element) to two signed 4-bit integers and shifts. The identifier nibble 1000 is a
// victim (zero) and says that the other nibble is an abfloat: sign, 2-bit e, 1-bit m: (2 + m) << (e + BIAS).
// FLINT = 1: normal nibbles are signed flint4 (BIAS 3), else int4 (BIAS 2).
module olive_decode #(
    parameter bit FLINT = 0,
    localparam int BIAS = FLINT ? 3 : 2
) (
    input  logic              [7:0] pair,
    output logic signed [3:0] first,
    output logic        [2:0] first_shift,
    output logic signed [3:0] second,
    output logic        [2:0] second_shift
);
  wire [1:0][3:0] nibble = pair;
  wire [1:0] victim = {nibble[1] == 4'b1000, nibble[0] == 4'b1000};
  logic [1:0][3:0] value;
  logic [1:0][2:0] shift;
  genvar i;
  for (i = 0; i < 2; i++) begin : elements
    // The code e = m = 0 is never produced; its decoder twin reads it as e = 0, m = 1.
    wire mantissa = nibble[i][0] | ~|nibble[i][2:0];
    wire [3:0] outlier = nibble[i][3] ? -{2'b00, 1'b1, mantissa} : {2'b00, 1'b1, mantissa};
    wire [3:0] normal;
    wire [2:0] normal_shift;
    if (FLINT) begin : flint_normal
      wire [1:0] magnitude;
      wire [1:0] magnitude_shift;
      flint_decode #(.BITS(3)) decode (.code(nibble[i][2:0]), .value(magnitude), .shift(magnitude_shift));
      assign normal = nibble[i][3] ? -{2'b00, magnitude} : {2'b00, magnitude};
      assign normal_shift = {1'b0, magnitude_shift};
    end else begin : int_normal
      assign normal = nibble[i];
      assign normal_shift = 3'd0;
    end
    assign value[i] = victim[i] ? 4'd0 : victim[1-i] ? outlier : normal;
    assign shift[i] = victim[1-i] ? 3'(BIAS) + {1'b0, nibble[i][2:1]} : normal_shift;
  end
  assign first = value[0];
  assign second = value[1];
  assign first_shift = shift[0];
  assign second_shift = shift[1];
endmodule

// Dot product of LANES (even) OliVe elements on both sides: integers multiplied, shifts added, integer accumulator.
module olive_dot #(
    parameter bit FLINT = 0,
    parameter int LANES = 2,
    parameter int ACCUMULATOR_BITS = 32
) (
    input  logic                               clk,
    input  logic                               clear,
    input  logic                 [LANES*4-1:0] weight,
    input  logic                 [LANES*4-1:0] activation,
    output logic signed [ACCUMULATOR_BITS-1:0] accumulator
);
  localparam int FIXED_BITS = 8 + 2 * (FLINT ? 6 : 5);
  wire [LANES*4-1:0] weight_value, activation_value;
  wire [LANES*3-1:0] weight_shift, activation_shift;
  wire [LANES*FIXED_BITS-1:0] terms;
  genvar i;
  for (i = 0; i < LANES / 2; i++) begin : pairs
    olive_decode #(.FLINT(FLINT)) weight_decode (
        .pair(weight[i*8+:8]),
        .first(weight_value[i*8+:4]), .first_shift(weight_shift[i*6+:3]),
        .second(weight_value[i*8+4+:4]), .second_shift(weight_shift[i*6+3+:3])
    );
    olive_decode #(.FLINT(FLINT)) activation_decode (
        .pair(activation[i*8+:8]),
        .first(activation_value[i*8+:4]), .first_shift(activation_shift[i*6+:3]),
        .second(activation_value[i*8+4+:4]), .second_shift(activation_shift[i*6+3+:3])
    );
  end
  for (i = 0; i < LANES; i++) begin : lanes
    wire signed [3:0] w = $signed(weight_value[i*4+:4]);
    wire signed [3:0] a = $signed(activation_value[i*4+:4]);
    wire signed [7:0] product = w * a;
    wire [3:0] shift = {1'b0, weight_shift[i*3+:3]} + {1'b0, activation_shift[i*3+:3]};
    wire signed [FIXED_BITS-1:0] extended = FIXED_BITS'(product);
    assign terms[i*FIXED_BITS+:FIXED_BITS] = extended <<< shift;
  end
  wire signed [FIXED_BITS+$clog2(LANES)-1:0] sum;
  adder_tree #(.LANES(LANES), .WIDTH(FIXED_BITS)) tree (.terms(terms), .sum(sum));
  always_ff @(posedge clk)
    accumulator <= (clear ? ACCUMULATOR_BITS'(0) : accumulator) + ACCUMULATOR_BITS'(sum);
endmodule

// Tender: channel groups run from the largest scale to the smallest; between groups one bubble cycle with `rescale`
// doubles the accumulator and adds nothing, otherwise as int_dot.
module tender_dot #(
    parameter int WEIGHT_BITS = 4,
    parameter int ACTIVATION_BITS = 4,
    parameter bit ACTIVATION_UNSIGNED = 0,
    parameter int LANES = 1,
    parameter int ACCUMULATOR_BITS = 32
) (
    input  logic                               clk,
    input  logic                               clear,
    input  logic                               rescale,
    input  logic       [LANES*WEIGHT_BITS-1:0] weight,
    input  logic   [LANES*ACTIVATION_BITS-1:0] activation,
    output logic signed [ACCUMULATOR_BITS-1:0] accumulator
);
  localparam int PRODUCT_BITS = WEIGHT_BITS + ACTIVATION_BITS;
  wire [LANES*PRODUCT_BITS-1:0] products;
  genvar lane;
  for (lane = 0; lane < LANES; lane++) begin : lanes
    int_multiplier #(
        .WEIGHT_BITS(WEIGHT_BITS), .ACTIVATION_BITS(ACTIVATION_BITS), .ACTIVATION_UNSIGNED(ACTIVATION_UNSIGNED)
    ) multiplier (
        .weight(weight[lane*WEIGHT_BITS+:WEIGHT_BITS]),
        .activation(activation[lane*ACTIVATION_BITS+:ACTIVATION_BITS]),
        .product(products[lane*PRODUCT_BITS+:PRODUCT_BITS])
    );
  end
  wire signed [PRODUCT_BITS+$clog2(LANES)-1:0] sum;
  adder_tree #(.LANES(LANES), .WIDTH(PRODUCT_BITS)) tree (.terms(products), .sum(sum));
  // The same adder does both: accumulator + sum, or accumulator + accumulator.
  wire signed [ACCUMULATOR_BITS-1:0] addend = rescale ? accumulator : ACCUMULATOR_BITS'(sum);
  always_ff @(posedge clk) accumulator <= (clear ? ACCUMULATOR_BITS'(0) : accumulator) + addend;
endmodule
