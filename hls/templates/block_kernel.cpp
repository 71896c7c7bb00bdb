// Layer $block: $description.
// A decoder block, one token after another: weights $weights_place; KV cache, tokens in and out in memory. Generated;
// HOST.md describes every buffer.
#include "config.h"
$image
extern "C" void $name($parameters) {
$interfaces
  codesign::run_block<${name}_config>($arguments);
}
