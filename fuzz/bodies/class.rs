//! Query strings: whatever they are, what the server does not see changes nothing, and what stands
//! before a write does not hide it.

use pgdrain::session::class::{Shape, reads_alone, shape};

/// # Panics
/// When a text is one thing alone and another with blanks around it, or hides a write.
pub(crate) fn run(data: &[u8]) {
    let alone = shape(data);
    let around = [b"/* ' */;\n", data, b"\n;--"].concat();
    assert_eq!(shape(&around), alone);
    assert!(!reads_alone(data) || alone == Shape::Reads);

    let before_a_write = [data, b"\n;delete from t"].concat();
    assert!(writes(shape(&before_a_write)), "{alone:?}");
    if writes(alone) {
        assert!(writes(shape(&[b"select 1;", data].concat())), "{alone:?}");
        assert!(writes(shape(&[data, b"\n;select 1"].concat())), "{alone:?}");
    }
}

fn writes(shape: Shape<'_>) -> bool {
    matches!(shape, Shape::Writes(_))
}
