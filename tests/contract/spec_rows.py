"""Every wrong spec: section 1 of the contract. Each row breaks one thing of a spec that holds."""

from __future__ import annotations

from dataclasses import dataclass

GOOD = """\
name: router
options:
  - cheap
  - balanced
  - dear
baseline: balanced
algorithm: thompson
contexts:
  - task
  - {name: tier, values: [free, paid]}
  - {name: tokens, buckets: [500, 2000]}
  - {name: urgent, type: flag}
reward:
  quality: {weight: 0.6}
  latency_ms: {weight: -0.2, budget: 2000}
  cost_usd: {weight: -0.2, range: [0, 0.02]}
reward_range: [-1, 1]
max_contexts: 10000
rails:
  min_exploration: 0.02
decay: {half_life: 14d}
horizon: {after: 7d}
mode: live
log_input: contexts
"""
JOINT = """\
name: retries
strategies:
  timeout: {options: [1s, 2s, 5s]}
  retries: {options: ["0", "1", "3"]}
valid:
  - {timeout: 1s}
  - {timeout: [2s, 5s], retries: ["0", "1"]}
"""


@dataclass(frozen=True)
class SpecRow:
    """A spec, and the line, key and words of the one problem that it has."""

    id: str
    text: str
    line: int
    key: str
    words: str


def change(
    id_: str, old: str, new: str, key: str, words: str, *, of: str = GOOD, line: int | None = None
) -> SpecRow:
    """A spec with one text replaced; the problem stands in the first line that is another."""
    assert of.count(old) == 1, (id_, old)
    text = of.replace(old, new)
    if line is None:
        line = 1 + of[: of.index(old)].count("\n")
    return SpecRow(id_, text, line, key, words)


def joint(id_: str, old: str, new: str, key: str, words: str, *, line: int | None = None) -> SpecRow:
    return change(f"joint: {id_}", old, new, key, words, of=JOINT, line=line)


def whole(id_: str, text: str, line: int, key: str, words: str) -> SpecRow:
    return SpecRow(id_, text, line, key, words)


_OPTIONS = "  - cheap\n  - balanced\n  - dear\n"

ROWS = [
    # The text
    whole("empty", "", 1, "", "empty"),
    whole("only a comment", "# nothing\n", 1, "", "empty"),
    whole("a list", "- name\n- options\n", 1, "", "a map"),
    whole("a text", "router\n", 1, "", "a map"),
    whole("two documents", GOOD + "---\nname: b\n", 25, "", "second document"),
    whole("a tab", "name: a\noptions:\n\t- a\n\t- b\n", 3, "", "tab"),
    whole("open quotes", 'name: "a\noptions: [a, b]\n', 1, "", "not valid YAML"),
    whole("an open list", "name: a\noptions: [a, b\n", 3, "", "not valid YAML"),
    change("a key twice", "mode: live", "mode: live\nmode: off", "mode", "twice", line=24),
    change("an anchor", "reward_range: [-1, 1]", "reward_range: &range [-1, 1]", "", "anchor"),
    change("an alias", "reward_range: [-1, 1]", "reward_range: *range", "", "alias"),
    change("a tag", "max_contexts: 10000", "max_contexts: !!int 10000", "", "tag"),
    change("a merge key", "decay: {half_life: 14d}", "decay: {<<: {half_life: 14d}}", "<<", "merge"),
    whole("too deep", "name: " + "[" * 40 + "]" * 40 + "\n", 1, "", "deep"),
    # Keys
    change("an unknown key", "max_contexts: 10000", "max_context: 10000", "max_context", "max_contexts"),
    change("an unknown key like none", "mode: live", "zzz: live", "zzz", "no key"),
    change("session_ttl comes later", "mode: live", "session_ttl: 24h", "session_ttl", "not supported"),
    change("an unknown rail", "min_exploration: 0.02", "min_exploratoin: 0.02", "rails.min_exploratoin", "min_exploration"),
    change("an unknown key of a context", "values: [free, paid]", "value: [free, paid]", "contexts[1].value", "values"),
    change("an unknown key of a metric", "budget: 2000", "budgt: 2000", "reward.latency_ms.budgt", "budget"),
    change("an unknown key of decay", "half_life: 14d", "halflife: 14d", "decay.halflife", "half_life"),
    change("an unknown key of horizon", "after: 7d", "aftr: 7d", "horizon.aftr", "after"),
    change("a default outcome of nothing", "after: 7d", "after: 7d, outcome: {}", "horizon.outcome", "empty"),
    change("a default of an unknown metric", "after: 7d", "after: 7d, outcome: {qualty: 0}", "horizon.outcome.qualty", "quality"),
    change("a default outside its scale", "after: 7d", "after: 7d, outcome: {quality: 2}", "horizon.outcome.quality", "0 to 1"),
    change("a default that is no number", "after: 7d", "after: 7d, outcome: {quality: bad}", "horizon.outcome.quality", "number"),
    change("was comes later", "  - dear\n", "  - {name: dear, was: [big]}\n", "options[2].was", "not supported"),
    # Names
    change("no name", "name: router\n", "", "", "name is missing"),
    change("a name in capitals", "name: router", "name: Router", "name", "capsule's name"),
    change("a name with a space", "name: router", "name: my router", "name", "capsule's name"),
    change("a name that starts with a dash", "name: router", "name: -router", "name", "capsule's name"),
    change("an empty name", "name: router", 'name: ""', "name", "capsule's name"),
    change("a name of 65 bytes", "name: router", "name: " + "r" * 65, "name", "capsule's name"),
    change("a name is a list", "name: router", "name: [router]", "name", "a text"),
    change("a name is nothing", "name: router", "name:", "name", "a text"),
    # Options
    change("no options", "options:\n" + _OPTIONS + "baseline: balanced\n", "", "", "options is missing", line=1),
    change("one option", _OPTIONS + "baseline: balanced\n", "  - cheap\n", "options", "1 options"),
    change("an empty list of options", "options:\n" + _OPTIONS + "baseline: balanced\n", "options: []\n", "options", "0 options"),
    change("options is a text", "options:\n" + _OPTIONS + "baseline: balanced\n", "options: cheap\n", "options", "a list"),
    change("1025 options", "  - dear\n", "".join(f"  - o{at}\n" for at in range(1023)), "options", "1025 options", line=3),
    change("an option twice", "  - dear\n", "  - cheap\n", "options[2]", "twice"),
    change("an empty option", "  - dear\n", '  - ""\n', "options[2]", "1 to 64 bytes"),
    change("an option of 65 bytes", "  - dear\n", "  - " + "ü" * 32 + "x\n", "options[2]", "1 to 64 bytes"),
    change("an option with a line break", "  - dear\n", '  - "a\\nb"\n', "options[2]", "control characters"),
    change("an option is a list", "  - dear\n", "  - [dear]\n", "options[2]", "a map"),
    change("an option is nothing", "  - dear\n", "  -\n", "options[2]", "a text"),
    change("a baseline that is no option", "baseline: balanced", "baseline: ballanced", "baseline", "balanced"),
    change("a baseline is a list", "baseline: balanced", "baseline: [balanced]", "baseline", "a text"),
    change("an unknown algorithm", "algorithm: thompson", "algorithm: thomson", "algorithm", "thompson"),
    change("an epsilon above 1", "algorithm: thompson", "algorithm: {name: epsilon_greedy, epsilon: 1.1}", "algorithm.epsilon", "0 to 1"),
    change("a negative epsilon", "algorithm: thompson", "algorithm: {name: epsilon_greedy, epsilon: -0.1}", "algorithm.epsilon", "0 to 1"),
    change("an epsilon is a text", "algorithm: thompson", 'algorithm: {name: epsilon_greedy, epsilon: "0.1"}', "algorithm.epsilon", "a number"),
    change("an unknown key of epsilon_greedy", "algorithm: thompson", "algorithm: {name: epsilon_greedy, epsilom: 0.1}", "algorithm.epsilom", "epsilon"),
    change("a key that ucb1 has not", "algorithm: thompson", "algorithm: {name: ucb1, epsilon: 0.1}", "algorithm.epsilon", "epsilon_greedy"),
    change("a prior beyond reward_range", "  - dear\n", "  - {name: dear, prior: {reward: 1.5, count: 4}}\n", "options[2].prior.reward", "reward_range"),
    change("a prior that counts as nothing", "  - dear\n", "  - {name: dear, prior: {reward: 0.5, count: 0}}\n", "options[2].prior.count", "more than 0"),
    change("a prior that counts too much", "  - dear\n", "  - {name: dear, prior: {reward: 0.5, count: 1e7}}\n", "options[2].prior.count", "at most"),
    change("a prior without a count", "  - dear\n", "  - {name: dear, prior: {reward: 0.5}}\n", "options[2].prior", "count is missing"),
    change("a prior is a number", "  - dear\n", "  - {name: dear, prior: 0.5}\n", "options[2].prior", "a map"),
    change("an unknown key of a prior", "  - dear\n", "  - {name: dear, prior: {mean: 0.5, reward: 0.5, count: 2}}\n", "options[2].prior.mean", "no key"),
    change("shrinkage is a number", "mode: live", "shrinkage: 8", "shrinkage", "a map"),
    change("shrinkage without strength", "mode: live", "shrinkage: {}", "shrinkage", "strength is missing"),
    change("a strength of 0", "mode: live", "shrinkage: {strength: 0}", "shrinkage.strength", "more than 0"),
    change("a strength is NaN", "mode: live", "shrinkage: {strength: .nan}", "shrinkage.strength", "finite"),
    change("shrinkage of weights", "algorithm: thompson", "algorithm: simple_weighted\nshrinkage: {strength: 8}", "shrinkage", "simple_weighted", line=8),
    change("an algorithm without a name", "algorithm: thompson", "algorithm: {epsilon: 0.1}", "algorithm", "name is missing"),
    change("a key that the algorithm has not", "algorithm: thompson", "algorithm: {name: thompson, epsilon: 0.1}", "algorithm.epsilon", "epsilon"),
    # Contexts
    whole("contexts is a text", "name: a\noptions: [a, b]\ncontexts: task\n", 3, "contexts", "a list"),
    change("a context twice", "  - task\n", "  - tier\n", "contexts[1]", "twice", line=10),
    change("an empty context", "  - task\n", '  - ""\n', "contexts[0]", "1 to 64 bytes"),
    change("a context without a name", "{name: urgent, type: flag}", "{type: flag}", "contexts[3]", "name is missing"),
    change("an unknown type", "type: flag", "type: boolean", "contexts[3].type", "flag"),
    change("a flag with values", "type: flag", "type: flag, values: [a]", "contexts[3].values", "category"),
    change("a flag with buckets", "type: flag", "type: flag, buckets: [1]", "contexts[3].buckets", "number"),
    change("values and buckets", "values: [free, paid]", "values: [free, paid], buckets: [1]", "contexts[1].buckets", "number"),
    change("a number without buckets", "type: flag", "type: number", "contexts[3]", "buckets"),
    change("no values", "values: [free, paid]", "values: []", "contexts[1].values", "0 values"),
    change("a value twice", "values: [free, paid]", "values: [free, free]", "contexts[1].values[1]", "twice"),
    change("a value of 65 bytes", "values: [free, paid]", "values: [free, " + "x" * 65 + "]", "contexts[1].values[1]", "64 bytes"),
    change("values is a text", "values: [free, paid]", "values: free", "contexts[1].values", "a list"),
    change("257 values", "values: [free, paid]", "values: [" + ", ".join(f"v{at}" for at in range(257)) + "]", "contexts[1].values", "257 values"),
    change("no buckets", "buckets: [500, 2000]", "buckets: []", "contexts[2].buckets", "0 edges"),
    change("buckets that fall", "buckets: [500, 2000]", "buckets: [2000, 500]", "contexts[2].buckets", "above the one before"),
    change("a bucket twice", "buckets: [500, 2000]", "buckets: [500, 500]", "contexts[2].buckets", "above the one before"),
    change("a bucket of -0 and 0", "buckets: [500, 2000]", "buckets: [-0.0, 0]", "contexts[2].buckets", "above the one before"),
    change("an infinite bucket", "buckets: [500, 2000]", "buckets: [500, .inf]", "contexts[2].buckets[1]", "finite"),
    change("a bucket that is NaN", "buckets: [500, 2000]", "buckets: [.nan, 2000]", "contexts[2].buckets[0]", "finite"),
    change("a bucket beyond f64", "buckets: [500, 2000]", "buckets: [500, 1e999]", "contexts[2].buckets[1]", "finite"),
    change("a bucket is a text", "buckets: [500, 2000]", 'buckets: ["500", 2000]', "contexts[2].buckets[0]", "a number"),
    whole("33 contexts", "name: a\noptions: [a, b]\ncontexts: [" + ", ".join(f"c{at}" for at in range(33)) + "]\n", 3, "contexts", "33 contexts"),
    # Reward
    whole("no metrics", "name: a\noptions: [a, b]\nreward: {}\n", 3, "reward", "0 metrics"),
    whole("reward is a number", "name: a\noptions: [a, b]\nreward: 1\n", 3, "reward", "a map"),
    change("a weight of 0", "{weight: 0.6}", "{weight: 0}", "reward.quality.weight", "other than 0"),
    change("no weight", "{weight: 0.6}", "{budget: 10}", "reward.quality", "weight is missing"),
    change("a weight is a text", "{weight: 0.6}", '{weight: "0.6"}', "reward.quality.weight", "a number"),
    change("a weight is NaN", "{weight: 0.6}", "{weight: .nan}", "reward.quality.weight", "finite"),
    change("a budget of 0", "budget: 2000", "budget: 0", "reward.latency_ms.budget", "above 0"),
    change("a negative budget", "budget: 2000", "budget: -5", "reward.latency_ms.budget", "above 0"),
    change("budget and range", "budget: 2000", "budget: 2000, range: [0, 1]", "reward.latency_ms", "not both"),
    change("a range that falls", "range: [0, 0.02]", "range: [0.02, 0]", "reward.cost_usd.range", "lower one first"),
    change("an empty range", "range: [0, 0.02]", "range: [1, 1]", "reward.cost_usd.range", "lower one first"),
    change("a range of one", "range: [0, 0.02]", "range: [0]", "reward.cost_usd.range", "two numbers"),
    change("a range too wide", "range: [0, 0.02]", "range: [-1.7e308, 1.7e308]", "reward.cost_usd.range", "range"),
    change("an empty metric", "  quality: {weight: 0.6}", '  "": {weight: 0.6}', "reward.", "1 to 64 bytes"),
    change("weights beyond reward_range", "{weight: 0.6}", "{weight: 1.6}", "reward", "reward_range", line=14),
    change("weights below reward_range", "reward_range: [-1, 1]", "reward_range: [-0.1, 1]", "reward", "reward_range", line=14),
    change("a reward_range that falls", "reward_range: [-1, 1]", "reward_range: [1, -1]", "reward_range", "lower one first"),
    change("a reward_range of three", "reward_range: [-1, 1]", "reward_range: [-1, 0, 1]", "reward_range", "two numbers"),
    change("a reward_range is infinite", "reward_range: [-1, 1]", "reward_range: [-1, .inf]", "reward_range[1]", "finite"),
    # The rest
    change("max_contexts is 0", "max_contexts: 10000", "max_contexts: 0", "max_contexts", "1 to"),
    change("max_contexts is too large", "max_contexts: 10000", "max_contexts: 1000001", "max_contexts", "1 to"),
    change("max_contexts is a fraction", "max_contexts: 10000", "max_contexts: 1.5", "max_contexts", "whole"),
    change("max_contexts is a text", "max_contexts: 10000", "max_contexts: many", "max_contexts", "a number"),
    change("min_exploration above 1", "min_exploration: 0.02", "min_exploration: 1.02", "rails.min_exploration", "0 to 1"),
    change("min_exploration below 0", "min_exploration: 0.02", "min_exploration: -0.02", "rails.min_exploration", "0 to 1"),
    change("min_exploration in percent", "min_exploration: 0.02", "min_exploration: 2%", "rails.min_exploration", "a number"),
    change("max_delta with thompson", "min_exploration: 0.02", "max_delta: 0.1", "rails.max_delta", "simple_weighted"),
    change("freeze is no", "min_exploration: 0.02", "freeze: no", "rails.freeze", "true or false"),
    change("rails is a number", "rails:\n  min_exploration: 0.02\n", "rails: 0.02\n", "rails", "a map"),
    change("two kinds of decay", "half_life: 14d", "half_life: 14d, half_life_feedbacks: 9", "decay", "exactly one"),
    change("an empty decay", "decay: {half_life: 14d}", "decay: {}", "decay", "exactly one"),
    change("a half life without a unit", "half_life: 14d", "half_life: 14", "decay.half_life", "no unit"),
    change("a half life in months", "half_life: 14d", "half_life: 2mo", "decay.half_life", "duration"),
    change("a half life of 0", "half_life: 14d", "half_life: 0d", "decay.half_life", "more than 0"),
    change("a half life of 0 feedbacks", "half_life: 14d", "half_life_feedbacks: 0", "decay.half_life_feedbacks", "above 0"),
    change("a horizon too short", "after: 7d", "after: 0s", "horizon.after", "1 s"),
    change("a horizon too long", "after: 7d", "after: 4000d", "horizon.after", "ten years"),
    change("a horizon is a text", "horizon: {after: 7d}", "horizon: 7d", "horizon", "a map"),
    change("canary comes later", "mode: live", "mode: canary", "mode", "not supported"),
    change("an unknown mode", "mode: live", "mode: life", "mode", "live"),
    change("log_input full comes later", "log_input: contexts", "log_input: full", "log_input", "not supported"),
    change("an unknown log_input", "log_input: contexts", "log_input: none", "log_input", "contexts"),
    # Several strategies
    joint("options at the top too", "name: retries\n", "name: retries\noptions: [a, b]\n", "options", "under each strategy", line=2),
    joint("an algorithm at the top too", "name: retries\n", "name: retries\nalgorithm: thompson\n", "algorithm", "under each strategy", line=2),
    whole("no strategies", "name: a\nstrategies: {}\n", 2, "strategies", "0 strategies"),
    joint("a strategy without options", "timeout: {options: [1s, 2s, 5s]}", "timeout: {baseline: 1s}", "strategies.timeout", "options is missing"),
    joint("an unknown key of a strategy", "{options: [1s, 2s, 5s]}", "{options: [1s, 2s, 5s], mode: live}", "strategies.timeout.mode", "no key"),
    joint("an empty valid", "valid:\n  - {timeout: 1s}\n  - {timeout: [2s, 5s], retries: [\"0\", \"1\"]}\n", "valid: []\n", "valid", "empty"),
    joint("valid names an unknown strategy", "- {timeout: 1s}", "- {timeouts: 1s}", "valid[0].timeouts", "timeout"),
    joint("valid names an unknown option", "- {timeout: 1s}", "- {timeout: 3s}", "valid[0].timeout", "3s"),
    joint("valid has an empty list", "- {timeout: 1s}", "- {timeout: []}", "valid[0].timeout", "no option"),
    whole(
        "joint: the baselines are not valid",
        JOINT.replace("[1s, 2s, 5s]}", "[1s, 2s, 5s], baseline: 2s}").replace('"3"]}', '"3"], baseline: "3"}'),
        6, "valid", "baseline",
    ),
    whole("valid with one strategy", "name: a\noptions: [a, b]\nvalid: [{choice: a}]\n", 3, "valid", "several strategies"),
    whole("17 strategies", "name: a\nstrategies:\n" + "".join(f"  s{at}: {{options: [a, b]}}\n" for at in range(17)) + "valid: [{" + ", ".join(f"s{at}: a" for at in range(17)) + "}]\n", 3, "strategies", "17 strategies"),
    whole("too many combinations", "name: a\nstrategies:\n" + "".join(f"  s{at}: {{options: [a, b]}}\n" for at in range(13)), 3, "strategies", "combinations"),
]  # fmt: skip
