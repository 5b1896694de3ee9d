#!/usr/bin/env bash
# Methods at equal parameters on a mixture of small tasks, settings chosen on validation, five new seeds.
#   docs/results/study.sh MIXTURE OUTPUT STEPS COMPARISON…      the same command continues it
#   SEEDS=101-102 docs/results/study.sh …                        these first; a later call adds others
# MIXTURE is demo (the six demo tasks), inflection_kinds, conflicting_tasks or small_glue (which needs
# TFDS_DATA_DIR, and first pretrains a T5); a COMPARISON is a function below, each a folder of OUTPUT;
# each further call of compare adds methods to its folder.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
mixture="$1" output="$(realpath -m "$2")" steps="$3"
cd "$here"  # Where --module finds its files.

pretrained() {  # T5 for small_glue, in OUTPUT/t5: about two hours on two cores.
  local texts="$output/texts"
  [[ -e $texts/small_glue.spiece.model ]] ||
    python small_glue.py "$texts" --tfds_data_dir="$TFDS_DATA_DIR"
  hyperdecoders train --gin_file=small_glue_pretrain.gin --module=small_glue --data_dir="$texts" \
    --vocabulary="$texts/small_glue.spiece.model" --model_dir="$output/t5"
}

compare() {  # FOLDER FLAGS…
  local tasks=()
  case $mixture in
    demo) ;;
    small_glue)
      pretrained
      tasks=(--gin_file="$here/small_glue.gin" --vocabulary="$output/texts/small_glue.spiece.model"
        --gin.INITIAL_CHECKPOINT_PATH="$output/t5") ;;
    *) tasks=(--module="$mixture" --gin.MIXTURE_OR_TASK_NAME="$mixture") ;;
  esac
  # A word of a text may have one token more than the demo's answers.
  [[ $mixture != conflicting_tasks ]] ||
    tasks+=(--gin.TASK_FEATURE_LENGTHS="{'inputs': 32, 'targets': 13}")
  hyperdecoders compare --gin_file="$here/common.gin" --module=constant_condition "${tasks[@]}" \
    --seeds="${SEEDS:-101-105}" --baseline=single_adapter --correct --output="$output/$1" \
    --gin.TRAIN_STEPS="$steps" --gin.EVAL_PERIOD=$((steps / 4)) \
    --gin.CHECKPOINT_PERIOD=$((steps < 2000 ? steps : 2000)) \
    "${@:2}"
}

adapter="single_adapter=ENCODER_BOTTLENECK_DIM=147,DECODER_BOTTLENECK_DIM=147"
hyper="ENCODER_BOTTLENECK_DIM=64,DECODER_BOTTLENECK_DIM=16,HYPERNETWORK_BOTTLENECK_DIM=32"

both() {  # Both stacks adapted, with as many parameters as the single adapter has.
  compare both --match_parameters --method="$adapter" \
    --method="hyperdecoder=$hyper" \
    --method="unbalanced=hyperdecoder,ENCODER_BOTTLENECK_DIM=147,DECODER_BOTTLENECK_DIM=12,HYPERNETWORK_BOTTLENECK_DIM=23" \
    --method="constant=hyperdecoder,ENCODER_BOTTLENECK_DIM=64,DECODER_BOTTLENECK_DIM=16,HYPERNETWORK_BOTTLENECK_DIM=32,decoder/AdapterConfig.source=constant"
}

of_decoder=(--method="single_adapter=$here/decoder_adapter.gin,DECODER_BOTTLENECK_DIM=230"
  --method="hyperdecoder=$here/decoder_generated.gin,DECODER_BOTTLENECK_DIM=16,HYPERNETWORK_BOTTLENECK_DIM=32")

decoder() {  # The decoder alone adapted, encoder plain and frozen.
  compare decoder --match_parameters "${of_decoder[@]}" \
    --method="constant=$here/decoder_generated.gin,DECODER_BOTTLENECK_DIM=16,HYPERNETWORK_BOTTLENECK_DIM=32,decoder/AdapterConfig.source=constant"
}

decoder_tuned() {  # Both without the control, at learning rates that are chosen on validation.
  compare decoder_tuned --match_parameters "${of_decoder[@]}" --grid=LEARNING_RATE=3e-3,1e-2,3e-2
}

decoder_chosen() {  # The same at the rates that decoder_tuned chose in 800 steps on the demo tasks.
  compare decoder_chosen --match_parameters "${of_decoder[0]}" "${of_decoder[1]},LEARNING_RATE=3e-3"
}

widths() {  # Single adapters in both stacks at three widths, and one for each task.
  compare widths --method="$adapter" \
    --method="narrow=single_adapter,ENCODER_BOTTLENECK_DIM=16,DECODER_BOTTLENECK_DIM=16" \
    --method="wide=single_adapter,ENCODER_BOTTLENECK_DIM=400,DECODER_BOTTLENECK_DIM=400" \
    --method="per_task=per_task_adapter,ENCODER_BOTTLENECK_DIM=24,DECODER_BOTTLENECK_DIM=24"
}

hypernetworks() {  # Other hypernetworks, at widths of their own.
  compare hypernetworks --method="$adapter" \
    --method="per_layer=hyperdecoder_per_layer,ENCODER_BOTTLENECK_DIM=64,DECODER_BOTTLENECK_DIM=16" \
    --method="generated_lora=hyperdecoder_lora,ENCODER_BOTTLENECK_DIM=64"
}

tuned() {  # Methods at learning rates that are chosen on validation, of three each.
  compare tuned --method="$adapter" --method="lora=lora,LORA_RANK=49,LORA_ALPHA=49" \
    --method="hyperdecoder=$hyper" \
    --method="per_task=per_task_adapter,ENCODER_BOTTLENECK_DIM=24,DECODER_BOTTLENECK_DIM=24" \
    --method="hyperformer=hyperformer,ADAPTER_BOTTLENECK_DIM=16" \
    --method="hypergrid=$here/../../gin_configs/experiments/demo_hypergrid.gin" \
    --method=full=none \
    --grid=single_adapter:LEARNING_RATE=3e-3,1e-2,3e-2 --grid=lora:LEARNING_RATE=1e-3,3e-3,1e-2 \
    --grid=hyperdecoder:LEARNING_RATE=3e-3,1e-2,3e-2 --grid=per_task:LEARNING_RATE=3e-3,1e-2,3e-2 \
    --grid=hyperformer:LEARNING_RATE=1e-3,3e-3,1e-2 --grid=hypergrid:LEARNING_RATE=3e-3,1e-2,3e-2 \
    --grid=full:LEARNING_RATE=3e-4,1e-3,3e-3
}

for comparison in "${@:4}"; do
  "$comparison"
done
