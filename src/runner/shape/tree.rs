//! Small questions to a syntax tree.

use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::Name;

/// The first child of a kind.
pub(super) fn child(node: &SyntaxNode, kind: SyntaxKind) -> Option<SyntaxNode> {
    node.children().find(|it| it.kind() == kind)
}

/// Whether there is a child of a kind.
pub(super) fn has(node: &SyntaxNode, kind: SyntaxKind) -> bool {
    child(node, kind).is_some()
}

/// Whether a keyword stands directly in a node.
pub(super) fn says(node: &SyntaxNode, keyword: &str) -> bool {
    node.children_with_tokens()
        .filter_map(|it| it.into_token())
        .any(|token| token.text().eq_ignore_ascii_case(keyword))
}

/// The first name under a node, whatever kind of reference it is.
pub(super) fn name(node: &SyntaxNode) -> Option<Name> {
    let path = node
        .descendants()
        .find(|it| matches!(it.kind(), SyntaxKind::PATH | SyntaxKind::PATH_REF));
    Name::parse(&path.unwrap_or_else(|| node.clone()).text().to_string())
}

/// The names of all children of a kind.
pub(super) fn names(node: &SyntaxNode, kind: SyntaxKind) -> Vec<Name> {
    node.children()
        .filter(|it| it.kind() == kind)
        .filter_map(|it| name(&it))
        .collect()
}

/// The name of a child, without a schema.
pub(super) fn bare(node: &SyntaxNode, kind: SyntaxKind) -> Option<String> {
    child(node, kind).and_then(|it| name(&it)).map(|it| it.name)
}

/// The columns that are listed under a child.
pub(super) fn columns(list: &SyntaxNode) -> Vec<String> {
    list.descendants()
        .filter(|it| it.kind() == SyntaxKind::COLUMN_NAME_REF)
        .filter_map(|it| Name::parse(&it.text().to_string()))
        .map(|it| it.name)
        .collect()
}

/// A node's text without what stands around it.
pub(super) fn text(node: &SyntaxNode) -> String {
    node.text().to_string().trim().to_owned()
}

/// The functions that are called anywhere under a node.
pub(super) fn calls(node: &SyntaxNode) -> Vec<Name> {
    node.descendants()
        .filter(|it| it.kind() == SyntaxKind::CALL_EXPR)
        .filter_map(|call| call.first_child())
        .filter(|it| matches!(it.kind(), SyntaxKind::NAME_REF | SyntaxKind::FIELD_EXPR))
        .filter_map(|it| Name::parse(&it.text().to_string()))
        .collect()
}
