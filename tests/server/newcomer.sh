#!/bin/bash
# What a newcomer types, word for word: from the wheel to a report in eight commands, one a line (`test_newcomer.py`
# counts them). In an empty folder; $WHEEL is the wheel and $PORT a free port: a person types dist/capsa-*.whl and 8787.
set -euo pipefail
trap 'kill %1 && wait' EXIT # Ctrl-C in the server's terminal

python3 -m venv env
env/bin/pip install --quiet "$WHEEL"
printf '%s\n' 'name: router' 'options: [cheap_fast, balanced, expensive_accurate]' 'contexts: [task_type, customer_tier]' 'reward: {quality: 0.6, latency: -0.2, cost: -0.2}' > router.yaml
env/bin/capsa serve --dev-mode --port "$PORT" &
curl -sS --fail-with-body --retry 20 --retry-delay 1 --retry-connrefused "localhost:$PORT/tenants/default/jobs/default/capsules/router/install" --data-binary @router.yaml
curl -sS --fail-with-body "localhost:$PORT/tenants/default/jobs/default/capsules/router/decide" -d '{"input": {"task_type": "legal", "customer_tier": "enterprise"}}' | tee decision.json
curl -sS --fail-with-body "localhost:$PORT/tenants/default/jobs/default/capsules/router/feedback" -d "{\"decisionId\": \"$(grep -o 'dec_[A-Za-z0-9_-]*' decision.json)\", \"outcome\": {\"quality\": 0.9, \"latency\": 0.3, \"cost\": 0.1}}"
curl -sS --fail-with-body "localhost:$PORT/tenants/default/jobs/default/capsules/router/report"
