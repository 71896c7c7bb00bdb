// Lookup-table (codebook) weights: code -> table entry -> multiply-accumulate.
//
// The table is a parameter (NF4 and other fixed codebooks) or, with PROGRAMMABLE = 1, a register file written one entry
// a cycle (`write`, `write_code`, `write_entry`), shared by all lanes (SqueezeLLM, VPTQ: one table a channel or layer).

// entry[lane] = table[code[lane]] for each lane.
module codebook_table #(
    parameter int CODE_BITS = 4,
    parameter int ENTRY_BITS = 8,
    parameter int LANES = 1,
    parameter bit PROGRAMMABLE = 0,
    parameter logic [ENTRY_BITS*2**CODE_BITS-1:0] TABLE = '0  // entry of code c at [c*ENTRY_BITS +: ENTRY_BITS]
) (
    input  logic                        clk,
    input  logic                        write,
    input  logic [       CODE_BITS-1:0] write_code,
    input  logic [      ENTRY_BITS-1:0] write_entry,
    input  logic [ LANES*CODE_BITS-1:0] code,
    output logic [LANES*ENTRY_BITS-1:0] entry
);
  wire [ENTRY_BITS*2**CODE_BITS-1:0] entries;
  genvar i;
  for (i = 0; i < 2**CODE_BITS; i++) begin : rows
    if (PROGRAMMABLE) begin : held
      logic [ENTRY_BITS-1:0] row;
      always_ff @(posedge clk) if (write && write_code == CODE_BITS'(i)) row <= write_entry;
      assign entries[i*ENTRY_BITS+:ENTRY_BITS] = row;
    end else begin : constant
      assign entries[i*ENTRY_BITS+:ENTRY_BITS] = TABLE[i*ENTRY_BITS+:ENTRY_BITS];
    end
  end
  for (i = 0; i < LANES; i++) begin : lanes
    wire [CODE_BITS-1:0] lane_code = code[i*CODE_BITS+:CODE_BITS];
    assign entry[i*ENTRY_BITS+:ENTRY_BITS] = entries[lane_code*ENTRY_BITS+:ENTRY_BITS];
  end
endmodule

// Integer entries and activations: dot product of LANES into one integer accumulator, as int_dot.
module codebook_dot #(
    parameter int CODE_BITS = 4,
    parameter int ENTRY_BITS = 8,
    parameter int ACTIVATION_BITS = 8,
    parameter int LANES = 1,
    parameter bit PROGRAMMABLE = 0,
    parameter logic [ENTRY_BITS*2**CODE_BITS-1:0] TABLE = '0,
    parameter int ACCUMULATOR_BITS = ENTRY_BITS + ACTIVATION_BITS + 10
) (
    input  logic                               clk,
    input  logic                               clear,
    input  logic                               write,
    input  logic               [CODE_BITS-1:0] write_code,
    input  logic              [ENTRY_BITS-1:0] write_entry,
    input  logic         [LANES*CODE_BITS-1:0] weight,
    input  logic   [LANES*ACTIVATION_BITS-1:0] activation,
    output logic signed [ACCUMULATOR_BITS-1:0] accumulator
);
  wire [LANES*ENTRY_BITS-1:0] entry;
  codebook_table #(
      .CODE_BITS(CODE_BITS), .ENTRY_BITS(ENTRY_BITS), .LANES(LANES), .PROGRAMMABLE(PROGRAMMABLE), .TABLE(TABLE)
  ) table_ (
      .clk(clk), .write(write), .write_code(write_code), .write_entry(write_entry), .code(weight), .entry(entry)
  );
  int_dot #(
      .WEIGHT_BITS(ENTRY_BITS),
      .ACTIVATION_BITS(ACTIVATION_BITS),
      .LANES(LANES),
      .ACCUMULATOR_BITS(ACCUMULATOR_BITS)
  ) dot (
      .clk(clk), .clear(clear), .weight(entry), .activation(activation), .accumulator(accumulator)
  );
endmodule

// FP16 entries and activations, one lane into an FP32-like accumulator: NF4 as the papers run it.
module codebook_float_mac #(
    parameter int CODE_BITS = 4,
    parameter bit PROGRAMMABLE = 0,
    parameter logic [16*2**CODE_BITS-1:0] TABLE = '0,
    parameter int ACCUMULATOR_EXPONENT_BITS = 8,
    parameter int ACCUMULATOR_MANTISSA_BITS = 23
) (
    input  logic                                                         clk,
    input  logic                                                         clear,
    input  logic                                                         write,
    input  logic [                                           CODE_BITS-1:0] write_code,
    input  logic [                                                    15:0] write_entry,
    input  logic [                                           CODE_BITS-1:0] weight,
    input  logic [                                                    15:0] activation,
    output logic [ACCUMULATOR_EXPONENT_BITS+ACCUMULATOR_MANTISSA_BITS:0] accumulator
);
  wire [15:0] entry;
  codebook_table #(.CODE_BITS(CODE_BITS), .ENTRY_BITS(16), .LANES(1), .PROGRAMMABLE(PROGRAMMABLE), .TABLE(TABLE)) table_ (
      .clk(clk), .write(write), .write_code(write_code), .write_entry(write_entry), .code(weight), .entry(entry)
  );
  float_mac #(
      .ACCUMULATOR_EXPONENT_BITS(ACCUMULATOR_EXPONENT_BITS), .ACCUMULATOR_MANTISSA_BITS(ACCUMULATOR_MANTISSA_BITS)
  ) mac (
      .clk(clk), .clear(clear), .weight(entry), .activation(activation), .accumulator(accumulator)
  );
endmodule
