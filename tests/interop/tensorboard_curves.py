"""Does TensorBoard read the event files of `logs/`, and do they say what `metrics.jsonl` says?

    python tests/interop/tensorboard_curves.py results/<sweep>/logs

Exit status: 0 if every value of every run is there at its step, 1 if not.
"""

import json
import struct
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

NOT_A_CURVE = {"step", "time"}


def float32(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def main(logs):
    runs = sorted(path.parent for path in Path(logs).glob("*/metrics.jsonl"))
    wrong = 0
    for run in runs:
        looks = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
        tags = set(events.Tags()["scalars"])
        expected = {key for look in looks for key, value in look.items() if value is not None} - NOT_A_CURVE
        if tags != expected:
            print(f"{run.name}: TensorBoard finds {sorted(tags)}, metrics.jsonl has {sorted(expected)}")
            wrong += 1
        for tag in tags & expected:
            found = [(e.step, e.value, e.wall_time) for e in events.Scalars(tag)]
            said = [(x["step"], float32(x[tag]), x["time"]) for x in looks if x[tag] is not None]
            if found != said:
                print(f"{run.name}: {tag} differs")
                wrong += 1
    print(f"{len(runs)} runs, {wrong} differences")
    return 1 if wrong or not runs else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
