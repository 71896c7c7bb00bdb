// Layer $layer: $description.
// Weights $weights_place; activations and outputs in memory. Generated; $host describes every buffer.
#include "config.h"
$image
extern "C" void $name($parameters) {
$interfaces
  codesign::run_layer<${name}_config>($arguments);
}
