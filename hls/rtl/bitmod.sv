// BitMoD's bit-serial PE (Chen et al., HPCA 2025, section IV and figure 5); bit for bit what hwmodel.pe_functional
// computes with its default datapath (lanes aligned to their own maximum, truncation, no rounding).
//
// A term is (-1)**sign * 2**(exponent + significance): sign, 2-bit exponent and `valid` of each lane's own, the
// significance shared by the lanes of a cycle. Encoders sit at the array's edge, one a lane and column.

// Terms of one weight. FLOAT: FP4 (E2M1) or, with `three_bits`, FP3 in the low bits of `code`; the code of -0 means the
// special value that `selector` picks out of four (6 bits each: sign, then I3 I2 I1 I0 F0; number 0 lowest). Otherwise
// a two's complement integer, sign-extended to 8 bits, in radix-4 Booth digits. `step` counts the cycles: 0 and 1 for
// FP3, FP4 and INT4, to 2 for INT6, to 3 for INT8.
module bitmod_term_encoder (
    input  logic            floating,
    input  logic            three_bits,
    input  logic [     7:0] code,
    input  logic [     1:0] step,
    input  logic [     1:0] selector,
    input  logic [    23:0] specials,
    output logic            valid,
    output logic            sign,
    output logic [     1:0] exponent,
    output logic [     2:0] significance
);
  // Booth digit of the bits 2 step + 1, 2 step and 2 step - 1.
  wire [8:0] padded = {code, 1'b0};
  wire [2:0] triplet = padded[2*step+:3];
  wire booth_valid = !(triplet == 3'b000 || triplet == 3'b111);
  wire booth_two = triplet == 3'b011 || triplet == 3'b100;

  // Magnitude in halves, I3 I2 I1 I0 F0.
  wire code_sign = three_bits ? code[2] : code[3];
  wire [2:0] index = three_bits ? {1'b0, code[1:0]} : code[2:0];
  logic [4:0] magnitude;
  always_comb begin
    if (three_bits) magnitude = index == 3'd0 ? 5'd0 : 5'd1 << index;  // 0 1 2 4
    else if (index < 3'd5) magnitude = {2'b00, index};  // 0 0.5 1 1.5 2
    else magnitude = index == 3'd5 ? 5'd6 : index == 3'd6 ? 5'd8 : 5'd12;  // 3 4 6
  end
  wire special = code_sign && index == 3'd0;
  wire [5:0] chosen = specials[6*selector+:6];
  wire [4:0] fixed = special ? chosen[4:0] : magnitude;
  // Leading one of I3..I0 (significance 1), and what is left of it in I2..F0 (significance 0).
  logic [1:0] high, low;
  always_comb begin
    high = fixed[4] ? 2'd3 : fixed[3] ? 2'd2 : fixed[2] ? 2'd1 : 2'd0;
    low = 2'd0;
    if (fixed[4]) low = fixed[3] ? 2'd3 : fixed[2] ? 2'd2 : fixed[1] ? 2'd1 : 2'd0;
    else if (fixed[3]) low = fixed[2] ? 2'd2 : fixed[1] ? 2'd1 : 2'd0;
    else if (fixed[2]) low = fixed[1] ? 2'd1 : 2'd0;
  end
  wire high_valid = |fixed[4:1];
  wire low_valid = fixed[0] || (fixed[4] && |fixed[3:1]) || (fixed[3] && |fixed[2:1]) || (fixed[2] && fixed[1]);

  always_comb begin
    if (floating) begin
      valid = step == 2'd0 ? low_valid : step == 2'd1 ? high_valid : 1'b0;
      sign = special ? chosen[5] : code_sign;
      exponent = !valid ? 2'd0 : step == 2'd0 ? low : high;
      significance = {2'b00, step[0]};
    end else begin
      valid = booth_valid;
      sign = triplet[2];
      exponent = {1'b0, booth_two};
      significance = {step, 1'b0};
    end
  end
endmodule

// Steps 1 to 3 with FP16 activations (finite): exponent match, multiply, group accumulate. `clear` with the first term
// of a group. The group's sum is mantissa * 2**(exponent - 15 - 10 - GUARD_BITS) in the unit of significance 0.
module bitmod_group_accumulator #(
    parameter int LANES = 4,
    parameter int GUARD_BITS = 3,
    parameter int MANTISSA_BITS = 15,
    localparam int ALIGNED_BITS = 11 + GUARD_BITS,
    localparam int DOT_BITS = ALIGNED_BITS + 1 + $clog2(LANES),
    localparam int SHIFTED_BITS = DOT_BITS + 6
) (
    input  logic                            clk,
    input  logic                            clear,
    input  logic        [     LANES*16-1:0] activation,
    input  logic        [        LANES-1:0] valid,
    input  logic        [        LANES-1:0] sign,
    input  logic        [      LANES*2-1:0] term_exponent,
    input  logic        [              2:0] significance,
    output logic signed [MANTISSA_BITS-1:0] mantissa,
    output logic        [              5:0] exponent
);
  localparam int TOTAL_BITS = (SHIFTED_BITS > MANTISSA_BITS ? SHIFTED_BITS : MANTISSA_BITS) + 1;
  localparam int EXCESS = TOTAL_BITS - MANTISSA_BITS;  // bits by which the sum may exceed the mantissa

  wire [LANES*6-1:0] exponents;
  wire [LANES*(ALIGNED_BITS+1)-1:0] products;
  wire [5:0] top;
  maximum_tree #(.LANES(LANES), .WIDTH(6)) maximum (.values(exponents), .maximum(top));
  genvar lane;
  for (lane = 0; lane < LANES; lane++) begin : lanes
    wire [15:0] x = activation[lane*16+:16];
    wire normal = |x[14:10];
    wire [5:0] own = {1'b0, x[14:11], x[10] | ~normal} + {4'd0, term_exponent[lane*2+:2]};
    assign exponents[lane*6+:6] = own;
    wire [5:0] distance = top - own;
    wire [ALIGNED_BITS-1:0] significand = {normal, x[9:0], {GUARD_BITS{1'b0}}} & {ALIGNED_BITS{valid[lane]}};
    wire [ALIGNED_BITS-1:0] aligned = significand >> distance;
    wire negative = x[15] ^ sign[lane];
    assign products[lane*(ALIGNED_BITS+1)+:ALIGNED_BITS+1] = negative ? -{1'b0, aligned} : {1'b0, aligned};
  end
  wire signed [DOT_BITS-1:0] dot;
  adder_tree #(.LANES(LANES), .WIDTH(ALIGNED_BITS + 1)) tree (.terms(products), .sum(dot));
  wire signed [SHIFTED_BITS-1:0] wide = SHIFTED_BITS'(dot);
  wire signed [SHIFTED_BITS-1:0] shifted = wide <<< significance;

  wire signed [MANTISSA_BITS-1:0] held = clear ? MANTISSA_BITS'(0) : mantissa;
  wire [5:0] held_exponent = clear ? 6'd0 : exponent;
  wire ahead = held_exponent > top;
  wire [5:0] gap = ahead ? held_exponent - top : top - held_exponent;
  wire signed [TOTAL_BITS-1:0] moved = ahead ? TOTAL_BITS'(shifted) : TOTAL_BITS'(held);
  wire signed [TOTAL_BITS-1:0] kept = ahead ? TOTAL_BITS'(held) : TOTAL_BITS'(shifted);
  wire lost = gap > (ahead ? 6'(SHIFTED_BITS - 2) : 6'(MANTISSA_BITS - 2));  // gives zero, not minus one
  wire signed [TOTAL_BITS-1:0] down = moved >>> gap;
  wire signed [TOTAL_BITS-1:0] total = kept + (lost ? TOTAL_BITS'(0) : down);

  // Shift right by the length of |total| / 2**(MANTISSA_BITS - 1), which counts magnitude bits beyond the mantissa.
  wire [TOTAL_BITS-1:0] absolute = total[TOTAL_BITS-1] ? -total : total;
  wire [EXCESS:0] beyond = absolute[TOTAL_BITS-1:MANTISSA_BITS-1];
  wire [$clog2(EXCESS+2)-1:0] zeros;
  leading_zeros #(.WIDTH(EXCESS + 1)) counter (.value(beyond), .zeros(zeros));
  wire [$clog2(EXCESS+2)-1:0] length = ($clog2(EXCESS + 2))'(EXCESS + 1) - zeros;
  wire signed [TOTAL_BITS-1:0] fitting = total >>> length;
  always_ff @(posedge clk) begin
    mantissa <= fitting[MANTISSA_BITS-1:0];
    exponent <= (ahead ? held_exponent : top) + 6'(length);
  end
endmodule

// The largest of LANES unsigned values.
module maximum_tree #(
    parameter int LANES = 4,
    parameter int WIDTH = 6
) (
    input  logic [LANES*WIDTH-1:0] values,
    output logic [      WIDTH-1:0] maximum
);
  if (LANES == 1) begin : leaf
    assign maximum = values;
  end else begin : node
    localparam int LEFT = LANES / 2;
    wire [WIDTH-1:0] left, right;
    maximum_tree #(.LANES(LEFT), .WIDTH(WIDTH)) left_tree (.values(values[0+:LEFT*WIDTH]), .maximum(left));
    maximum_tree #(.LANES(LANES - LEFT), .WIDTH(WIDTH)) right_tree
        (.values(values[LEFT*WIDTH+:(LANES-LEFT)*WIDTH]), .maximum(right));
    assign maximum = left > right ? left : right;
  end
endmodule

// Step 4: mantissa * scale, one bit of the scale a cycle, lowest first; the upper PRODUCT_BITS of the product, rounded
// down. `start` comes with the first bit and the mantissa; the product is there after SCALE_BITS edges. Bits that leave
// at the bottom are final, so dropping them early is rounding down.
module bitmod_dequantizer #(
    parameter int MANTISSA_BITS = 15,
    parameter int SCALE_BITS = 8,
    parameter int PRODUCT_BITS = 21,
    localparam int LOW_BITS = PRODUCT_BITS - MANTISSA_BITS
) (
    input  logic                            clk,
    input  logic                            start,
    input  logic                            scale_bit,
    input  logic signed [MANTISSA_BITS-1:0] mantissa,
    input  logic        [              5:0] exponent,
    output logic signed [ PRODUCT_BITS-1:0] product,
    output logic        [              5:0] product_exponent
);
  logic signed [MANTISSA_BITS-1:0] held, high;
  logic [LOW_BITS-1:0] low;
  wire signed [MANTISSA_BITS-1:0] factor = start ? mantissa : held;
  wire signed [MANTISSA_BITS-1:0] gated = factor & {MANTISSA_BITS{scale_bit}};
  wire signed [MANTISSA_BITS-1:0] so_far = start ? MANTISSA_BITS'(0) : high;
  wire signed [MANTISSA_BITS:0] sum = so_far + gated;
  assign product = {high, low};
  always_ff @(posedge clk) begin
    held <= factor;
    high <= sum[MANTISSA_BITS:1];
    low <= {sum[0], low[LOW_BITS-1:1]};
    if (start) product_exponent <= exponent;
  end
endmodule

// The whole PE: group accumulator and dequantizer, which takes over a finished group with `hand_over` (in the cycle
// after the group's last term) while the next group runs.
module bitmod_pe #(
    parameter int LANES = 4
) (
    input  logic                       clk,
    input  logic                       clear,
    input  logic        [LANES*16-1:0] activation,
    input  logic        [   LANES-1:0] valid,
    input  logic        [   LANES-1:0] sign,
    input  logic        [ LANES*2-1:0] term_exponent,
    input  logic        [         2:0] significance,
    input  logic                       hand_over,
    input  logic                       scale_bit,
    output logic signed [        20:0] product,
    output logic        [         5:0] product_exponent
);
  wire signed [14:0] mantissa;
  wire [5:0] exponent;
  bitmod_group_accumulator #(.LANES(LANES)) accumulator (
      .clk(clk), .clear(clear), .activation(activation), .valid(valid), .sign(sign), .term_exponent(term_exponent),
      .significance(significance), .mantissa(mantissa), .exponent(exponent)
  );
  bitmod_dequantizer dequantizer (
      .clk(clk), .start(hand_over), .scale_bit(scale_bit), .mantissa(mantissa), .exponent(exponent),
      .product(product), .product_exponent(product_exponent)
  );
endmodule

// The same terms with INT8 activations: shifts instead of alignment, an exact integer group sum.
module bitmod_int_accumulator #(
    parameter int LANES = 4,
    parameter int ACTIVATION_BITS = 8,
    parameter int ACCUMULATOR_BITS = 24  // INT8 x INT8 over a group of 128: 23 bits, and the sign of -128 * -128
) (
    input  logic                               clk,
    input  logic                               clear,
    input  logic   [LANES*ACTIVATION_BITS-1:0] activation,
    input  logic        [        LANES-1:0] valid,
    input  logic        [        LANES-1:0] sign,
    input  logic        [      LANES*2-1:0] term_exponent,
    input  logic        [              2:0] significance,
    output logic signed [ACCUMULATOR_BITS-1:0] accumulator
);
  localparam int TERM_BITS = ACTIVATION_BITS + 4;  // one more for -(-128), three for the exponent
  localparam int SUM_BITS = TERM_BITS + $clog2(LANES);
  wire [LANES*TERM_BITS-1:0] terms;
  genvar lane;
  for (lane = 0; lane < LANES; lane++) begin : lanes
    wire signed [ACTIVATION_BITS:0] extended = $signed(activation[lane*ACTIVATION_BITS+:ACTIVATION_BITS]);
    wire signed [ACTIVATION_BITS:0] chosen = valid[lane] ? (sign[lane] ? -extended : extended) : '0;
    wire signed [TERM_BITS-1:0] wide = TERM_BITS'(chosen);
    assign terms[lane*TERM_BITS+:TERM_BITS] = wide <<< term_exponent[lane*2+:2];
  end
  wire signed [SUM_BITS-1:0] sum;
  adder_tree #(.LANES(LANES), .WIDTH(TERM_BITS)) tree (.terms(terms), .sum(sum));
  wire signed [ACCUMULATOR_BITS-1:0] extended_sum = ACCUMULATOR_BITS'(sum);
  always_ff @(posedge clk)
    accumulator <= (clear ? ACCUMULATOR_BITS'(0) : accumulator) + (extended_sum <<< significance);
endmodule
