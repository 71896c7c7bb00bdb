// Vector codebooks: a code stands for DIMENSION elements, as many consecutive inputs (HIGGS, AQLM) or, ALONG_OUTPUTS,
// outputs that share an activation (VPTQ). With RESIDUAL_BITS a second book's elements are added to those of the first,
// whose code lies in the low bits. One entry is one element: element e of code c is entry c * DIMENSION + e.
//
// The table is a parameter (HIGGS' grids) or, with PROGRAMMABLE = 1, registers that are written one entry a cycle, the
// first book's before the second's. Books of many entries are memories: their rows come in by vector_dot's port.

// Products of elements that a table has looked up, and one accumulator, or one for each output.
//   accumulator[output] <= (clear ? 0 : accumulator[output]) + sum over codes and layers of element * activation
module vector_dot #(
    parameter int DIMENSION = 2,
    parameter int CODES = 2,  // at once
    parameter int LAYERS = 1,  // elements that are added up at each place
    parameter int ENTRY_BITS = 8,
    parameter int ACTIVATION_BITS = 8,
    parameter bit ALONG_OUTPUTS = 0,
    parameter int ACCUMULATOR_BITS = ENTRY_BITS + ACTIVATION_BITS + 10,
    localparam int INPUTS = CODES * (ALONG_OUTPUTS ? 1 : DIMENSION),
    localparam int OUTPUTS = ALONG_OUTPUTS ? DIMENSION : 1
) (
    input  logic                                         clk,
    input  logic                                         clear,
    // element e of layer l of code i at [((i * LAYERS + l) * DIMENSION + e) * ENTRY_BITS +: ENTRY_BITS]
    input  logic [CODES*LAYERS*DIMENSION*ENTRY_BITS-1:0] elements,
    input  logic            [INPUTS*ACTIVATION_BITS-1:0] activation,
    output logic          [OUTPUTS*ACCUMULATOR_BITS-1:0] accumulator
);
  localparam int PRODUCTS = INPUTS * LAYERS;  // of an output
  genvar output_, place;
  for (output_ = 0; output_ < OUTPUTS; output_++) begin : outputs
    wire [PRODUCTS*ENTRY_BITS-1:0] weights;
    wire [PRODUCTS*ACTIVATION_BITS-1:0] activations;
    for (place = 0; place < PRODUCTS; place++) begin : places
      localparam int INPUT = place / LAYERS, LAYER = place % LAYERS;
      localparam int CODE = ALONG_OUTPUTS ? INPUT : INPUT / DIMENSION;
      localparam int ELEMENT = ALONG_OUTPUTS ? output_ : INPUT % DIMENSION;
      assign weights[place*ENTRY_BITS+:ENTRY_BITS] = elements[((CODE*LAYERS+LAYER)*DIMENSION+ELEMENT)*ENTRY_BITS+:ENTRY_BITS];
      assign activations[place*ACTIVATION_BITS+:ACTIVATION_BITS] = activation[INPUT*ACTIVATION_BITS+:ACTIVATION_BITS];
    end
    int_dot #(
        .WEIGHT_BITS(ENTRY_BITS),
        .ACTIVATION_BITS(ACTIVATION_BITS),
        .LANES(PRODUCTS),
        .ACCUMULATOR_BITS(ACCUMULATOR_BITS)
    ) dot (
        .clk(clk), .clear(clear), .weight(weights), .activation(activations),
        .accumulator(accumulator[output_*ACCUMULATOR_BITS+:ACCUMULATOR_BITS])
    );
  end
endmodule

// The same behind its tables.
module vector_codebook_dot #(
    parameter int CODE_BITS = 4,
    parameter int RESIDUAL_BITS = 0,  // 0 for no second book
    parameter int DIMENSION = 2,
    parameter int CODES = 2,
    parameter int ENTRY_BITS = 8,
    parameter int ACTIVATION_BITS = 8,
    parameter bit ALONG_OUTPUTS = 0,
    parameter bit PROGRAMMABLE = 0,
    parameter int ACCUMULATOR_BITS = ENTRY_BITS + ACTIVATION_BITS + 10,
    localparam int FIRST = DIMENSION * 2**CODE_BITS,
    localparam int ENTRIES = FIRST + (RESIDUAL_BITS > 0 ? DIMENSION * 2**RESIDUAL_BITS : 0),
    localparam int PLACE_BITS = $clog2(ENTRIES),
    parameter logic [ENTRIES*ENTRY_BITS-1:0] TABLE = '0,
    localparam int INPUTS = CODES * (ALONG_OUTPUTS ? 1 : DIMENSION),
    localparam int OUTPUTS = ALONG_OUTPUTS ? DIMENSION : 1,
    localparam int WEIGHT_BITS = CODE_BITS + RESIDUAL_BITS
) (
    input  logic                                clk,
    input  logic                                clear,
    input  logic                                write,
    input  logic               [PLACE_BITS-1:0] write_place,
    input  logic               [ENTRY_BITS-1:0] write_entry,
    input  logic        [CODES*WEIGHT_BITS-1:0] weight,
    input  logic   [INPUTS*ACTIVATION_BITS-1:0] activation,
    output logic [OUTPUTS*ACCUMULATOR_BITS-1:0] accumulator
);
  localparam int LAYERS = RESIDUAL_BITS > 0 ? 2 : 1;
  localparam int ROW_BITS = DIMENSION * ENTRY_BITS;
  wire [ENTRIES*ENTRY_BITS-1:0] entries;
  genvar i;
  for (i = 0; i < ENTRIES; i++) begin : places
    if (PROGRAMMABLE) begin : held
      logic [ENTRY_BITS-1:0] entry;
      always_ff @(posedge clk) if (write && write_place == PLACE_BITS'(i)) entry <= write_entry;
      assign entries[i*ENTRY_BITS+:ENTRY_BITS] = entry;
    end else begin : constant
      assign entries[i*ENTRY_BITS+:ENTRY_BITS] = TABLE[i*ENTRY_BITS+:ENTRY_BITS];
    end
  end
  wire [CODES*LAYERS*ROW_BITS-1:0] elements;
  for (i = 0; i < CODES; i++) begin : codes
    select_row #(.NUMBER_BITS(CODE_BITS), .WIDTH(ROW_BITS)) first (
        .rows(entries[FIRST*ENTRY_BITS-1:0]),
        .number(weight[i*WEIGHT_BITS+:CODE_BITS]),
        .row(elements[i*LAYERS*ROW_BITS+:ROW_BITS])
    );
    if (RESIDUAL_BITS > 0) begin : second
      select_row #(.NUMBER_BITS(RESIDUAL_BITS), .WIDTH(ROW_BITS)) row (
          .rows(entries[ENTRIES*ENTRY_BITS-1:FIRST*ENTRY_BITS]),
          .number(weight[i*WEIGHT_BITS+CODE_BITS+:RESIDUAL_BITS]),
          .row(elements[(i*LAYERS+1)*ROW_BITS+:ROW_BITS])
      );
    end
  end
  vector_dot #(
      .DIMENSION(DIMENSION),
      .CODES(CODES),
      .LAYERS(LAYERS),
      .ENTRY_BITS(ENTRY_BITS),
      .ACTIVATION_BITS(ACTIVATION_BITS),
      .ALONG_OUTPUTS(ALONG_OUTPUTS),
      .ACCUMULATOR_BITS(ACCUMULATOR_BITS)
  ) dot (
      .clk(clk), .clear(clear), .elements(elements), .activation(activation), .accumulator(accumulator)
  );
endmodule
