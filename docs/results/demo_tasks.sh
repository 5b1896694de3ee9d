#!/usr/bin/env bash
# The six demo tasks: methods at equal parameters, settings chosen on validation, five new seeds.
#   docs/results/demo_tasks.sh OUTPUT [STEPS]      the same command continues it
# Main methods first; each further call of compare adds methods to the same folder.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
output="$(realpath -m "$1")" steps="${2:-800}"
cd "$here"

compare() {  # FOLDER FLAGS…
  hyperdecoders compare --gin_file="$here/demo_tasks.gin" --module=constant_condition \
    --seeds=101-105 --baseline=single_adapter --correct --output="$output/$1" \
    --gin.TRAIN_STEPS="$steps" --gin.EVAL_PERIOD=$((steps / 4)) --gin.CHECKPOINT_PERIOD="$steps" \
    "${@:2}"
}

adapter="single_adapter=ENCODER_BOTTLENECK_DIM=147,DECODER_BOTTLENECK_DIM=147"
hyper="ENCODER_BOTTLENECK_DIM=64,DECODER_BOTTLENECK_DIM=16,HYPERNETWORK_BOTTLENECK_DIM=32"

# Both sides adapted, as many parameters as the single adapter.
compare both --match_parameters --method="$adapter" \
  --method="hyperdecoder=$hyper" \
  --method="unbalanced=hyperdecoder,ENCODER_BOTTLENECK_DIM=147,DECODER_BOTTLENECK_DIM=12,HYPERNETWORK_BOTTLENECK_DIM=23" \
  --method="constant=hyperdecoder,ENCODER_BOTTLENECK_DIM=64,DECODER_BOTTLENECK_DIM=16,HYPERNETWORK_BOTTLENECK_DIM=32,decoder/AdapterConfig.source=constant"

# The decoder alone adapted, encoder plain and frozen.
compare decoder --match_parameters \
  --method="single_adapter=$here/decoder_adapter.gin,DECODER_BOTTLENECK_DIM=230" \
  --method="hyperdecoder=$here/decoder_generated.gin,DECODER_BOTTLENECK_DIM=16,HYPERNETWORK_BOTTLENECK_DIM=32" \
  --method="constant=$here/decoder_generated.gin,DECODER_BOTTLENECK_DIM=16,HYPERNETWORK_BOTTLENECK_DIM=32,decoder/AdapterConfig.source=constant"

# Other methods, at widths of their own.
compare others --method="$adapter" \
  --method="narrow=single_adapter,ENCODER_BOTTLENECK_DIM=16,DECODER_BOTTLENECK_DIM=16" \
  --method="wide=single_adapter,ENCODER_BOTTLENECK_DIM=400,DECODER_BOTTLENECK_DIM=400" \
  --method="per_task=per_task_adapter,ENCODER_BOTTLENECK_DIM=24,DECODER_BOTTLENECK_DIM=24" \
  --method="per_layer=hyperdecoder_per_layer,ENCODER_BOTTLENECK_DIM=64,DECODER_BOTTLENECK_DIM=16" \
  --method="hyperformer=hyperformer,ADAPTER_BOTTLENECK_DIM=16" \
  --method="lora=hyperdecoder_lora,ENCODER_BOTTLENECK_DIM=64" \
  --method="hypergrid=$here/../../gin_configs/experiments/demo_hypergrid.gin" \
  --method="full=none,LEARNING_RATE=1e-3"
