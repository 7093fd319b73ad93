"""FedAvg as it comes with Flower; writes down which trainings each round used."""

import json
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

SHAPES = ((6, 3, 5, 5), (6,), (16, 6, 5, 5), (16,), (120, 400), (120,), (84, 120), (84,), (10, 84), (10,))
"""The network of the AWS sample: 62,006 numbers, 0.25 MB."""

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds; with checkpoints, those that are not in the checkpoint yet."""
    config = context.run_config
    folder, nodes = Path(str(config["folder"])), int(config["num-nodes"])
    checkpoint = folder / "checkpoint.npz"

    def note(line: dict[str, object]) -> None:
        with (folder / "rounds.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def use(contents: list[RecordDict], _weighted_by: str) -> MetricRecord:
        metrics = [content["metrics"] for content in contents]
        used = [[int(m["device"]), int(m["training"])] for m in metrics]
        note({"round": int(metrics[0]["round"]), "used": used})
        return MetricRecord({"used": len(used)})

    def keep(round_number: int, arrays: ArrayRecord) -> None:
        numbers = [array.numpy() for array in arrays.values()]
        written = checkpoint.with_suffix(".new.npz")
        np.savez(written, *numbers, rounds=rounds_before + round_number)
        written.replace(checkpoint)

    rounds_before, numbers = 0, [np.zeros(shape) for shape in SHAPES]
    if config["checkpoints"] and checkpoint.exists():
        kept = np.load(checkpoint)
        rounds_before = int(kept["rounds"])
        numbers = [kept[f"arr_{place}"] for place in range(len(SHAPES))]
    strategy = FedAvg(
        fraction_evaluate=0.0,
        min_train_nodes=nodes,
        min_available_nodes=nodes,
        train_metrics_aggr_fn=use,
    )
    arrays = {f"layer-{p}": Array(a.astype(np.float32)) for p, a in enumerate(numbers)}
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(arrays),
        num_rounds=int(config["num-server-rounds"]) - rounds_before,
        timeout=float(config["timeout-s"]),
        train_config=ConfigRecord({"rounds-before": rounds_before}),
        evaluate_fn=keep if config["checkpoints"] else None,
    )
    note({"end": True})
