"""What calls answer, as JSON spells it. `Decision.answer` spells a decision, natively."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from capsa.decisions import ContextMemory, Feedback, InstallResult, Report
from capsa.decisions._history import AuditRecord, to_json
from capsa.decisions._learning import to_camel

#: The level of the intervals in a report.
LEVEL = 0.95


def feedback_json(feedback: Feedback) -> dict[str, Any]:
    """What became of one feedback. With several strategies ``decisions`` has one entry for each."""
    told: dict[str, Any] = {
        "decisionId": feedback.decision_id,
        "status": feedback.status,
        "reward": feedback.reward,
        "parts": feedback.parts,
        "missing": feedback.missing,
        "contextKey": feedback.context_key,
    }
    parts = feedback.decisions
    if len(parts) == 1:
        (part,) = parts
        told["strategyId"] = part.strategy_id
        told["strategy"] = part.strategy
        told["option"] = part.option
        told["optionName"] = part.option_name
        told["before"] = part.before
        told["after"] = part.after
    else:
        told["decisions"] = to_json(parts)
    told["learnerVersion"] = feedback.learner_version
    told["sequence"] = feedback.sequence
    return told


def installed_json(tenant: str, job: str, result: InstallResult, *, dry_run: bool) -> dict[str, Any]:
    """What an install did, or would do."""
    return {
        "tenant": tenant,
        "job": job,
        "capsule": result.capsule,
        "capsuleVersion": result.version,
        "digest": result.digest,
        "unchanged": result.unchanged,
        "changes": result.changes,
        "dryRun": dry_run,
    }


def report_json(report: Report) -> dict[str, Any]:
    """A report. Interval fields are null until they hold at any time."""
    told: dict[str, Any] = to_json(report)
    reward = {
        "mean": told.pop("rewardMean"),
        "low": None,
        "high": None,
        "level": LEVEL,
        "range": told.pop("rewardRange"),
    }
    told["feedback"]["void"] = 0
    for strategy in told["strategies"]:
        strategy["node_id"] = strategy["strategyId"]
        strategy["n_options"] = len(strategy["options"])
    return {**told, "override": None, "reward": reward}


def context_page(rows: Sequence[ContextMemory], limit: int) -> dict[str, Any]:
    """A page of contexts: a row for each strategy of each."""
    listed = [
        {
            "contextKey": row.context_key,
            "strategyId": number,
            "strategy": strategy,
            "weights": weights,
            "names": row.names[strategy],
            "decisions": row.decisions,
            "rewards": row.rewards,
            "updatedAt": row.updated_at,
            "nodeId": number,
            "totalTries": row.rewards,
        }
        for row in rows
        for number, (strategy, weights) in enumerate(
            (strategy, row.weights[strategy]) for strategy in row.names if strategy in row.weights
        )
    ]
    return {"contexts": listed, "next": rows[-1].context_key if len(rows) == limit else None}


def audit_page(rows: Sequence[AuditRecord], limit: int) -> dict[str, Any]:
    """A page of an audit log: `page`, with values of ours that are settings spelled as JSON spells them elsewhere."""
    told = page("audit", rows, limit)
    for row in told["audit"]:
        detail = row["detail"]
        if "installAllow" in detail:
            detail["installAllow"] = to_camel(detail["installAllow"])
    return told


def page(name: str, rows: Sequence[Any], limit: int) -> dict[str, Any]:
    """A page of the journal; ``next`` is the cursor of the page after it, null after the last one."""
    return {name: to_json(rows), "next": rows[-1].sequence if len(rows) == limit else None}
