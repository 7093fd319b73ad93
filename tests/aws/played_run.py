"""What a run's task does for the pipeline, and nothing else: it leaves a result, and an exit code.

python played_run.py succeed
python played_run.py fail
python played_run.py die       before it can say why
"""

import json
import os
import sys

import boto3

FAILURE = {
    "success": False,
    "error-type": "NotEnoughReplies",
    "error-message": "2 of 3 devices answered, at least 3 had to",
}


def main(how: str) -> int:
    """Leave what a run leaves."""
    if how == "die":
        return 137
    storage = boto3.client("s3")
    where = {"Bucket": os.environ["WINDFLOWER_AWS_BUCKET"]}
    results = os.environ["WINDFLOWER_AWS_RESULTS"]
    request = json.loads(os.environ["WINDFLOWER_AWS_REQUEST"])
    if how == "fail":
        storage.put_object(**where, Key=f"{results}/result.json", Body=json.dumps(FAILURE))
        return 75
    storage.put_object(**where, Key=f"{results}/model", Body=b"a model")
    result = {"success": True, "app": request["app"], "accuracy": 0.5}
    storage.put_object(**where, Key=f"{results}/result.json", Body=json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
