//! The shape of a plan as `EXPLAIN (FORMAT JSON)` tells it: kinds of nodes, what they read, and by which index;
//! without the conditions, which may hold what is nobody's business. Pure.

use serde_json::Value;

/// Nodes that are told; a plan over thousands of partitions is known by these.
const NODES_MAX: usize = 200;

/// A line for each node, two blanks further in for each level.
pub(super) fn shape(explained: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(plan) = explained.pointer("/0/Plan") {
        node(plan, 0, &mut lines);
    }
    lines
}

/// What the planner thinks it costs, in its own unit.
pub(super) fn cost(explained: &Value) -> Option<f64> {
    explained.pointer("/0/Plan/Total Cost")?.as_f64()
}

fn node(plan: &Value, depth: usize, lines: &mut Vec<String>) {
    if lines.len() >= NODES_MAX {
        return;
    }
    let text = |key: &str| plan.get(key).and_then(Value::as_str);
    let mut line = "  ".repeat(depth);
    if let Some(name) = text("Subplan Name") {
        line += &format!("{name}: ");
    }
    let kind = text("Node Type").unwrap_or("?");
    match (text("Strategy"), text("Operation"), text("Join Type")) {
        (Some(strategy), _, _) if strategy != "Plain" => line += &format!("{strategy} {kind}"),
        (_, Some(operation), _) => line += operation,
        (_, _, Some(join)) if join != "Inner" => line += &format!("{kind} ({join})"),
        _ => line += kind,
    }
    let on = text("Relation Name").or(text("CTE Name"));
    let on = on
        .or(text("Function Name"))
        .map(|name| match text("Schema") {
            Some(schema) => format!(" on {schema}.{name}"),
            None => format!(" on {name}"),
        });
    line += &on.unwrap_or_default();
    if let Some(index) = text("Index Name") {
        // A bitmap's index has no relation of its own to stand behind.
        line += &format!(" using {index}");
    }
    lines.push(line);
    let inner = plan.get("Plans").and_then(Value::as_array);
    for it in inner.into_iter().flatten() {
        node(it, depth + 1, lines);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_are_told_with_what_they_read_and_without_conditions() {
        let plan = json!([{"Plan": {
            "Node Type": "Aggregate", "Strategy": "Sorted", "Total Cost": 12.5, "Plans": [
                {"Node Type": "Nested Loop", "Join Type": "Left", "Plans": [
                    {"Node Type": "Index Scan", "Relation Name": "t", "Schema": "public",
                     "Index Name": "t_pkey", "Index Cond": "(t.id = 7)"},
                    {"Node Type": "Seq Scan", "Relation Name": "u", "Schema": "shop", "Filter": "(secret = 'x')"}
                ]},
                {"Node Type": "Result", "Subplan Name": "InitPlan 1"}
            ]
        }}]);
        assert_eq!(
            shape(&plan),
            [
                "Sorted Aggregate",
                "  Nested Loop (Left)",
                "    Index Scan on public.t using t_pkey",
                "    Seq Scan on shop.u",
                "  InitPlan 1: Result",
            ]
        );
        assert_eq!(cost(&plan), Some(12.5));
        let write = json!([{"Plan": {"Node Type": "ModifyTable", "Operation": "Update", "Relation Name": "t"}}]);
        assert_eq!(shape(&write), ["Update on t"]);
        assert!(shape(&json!([])).is_empty());
    }

    #[test]
    fn a_plan_of_very_many_nodes_is_cut() {
        let part = json!({"Node Type": "Seq Scan", "Relation Name": "p"});
        let plan = json!([{"Plan": {"Node Type": "Append", "Plans": vec![part; 5000]}}]);
        assert_eq!(shape(&plan).len(), NODES_MAX);
    }
}
