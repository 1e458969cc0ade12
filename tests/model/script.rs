//! The script of a conversation: one byte an instruction, and every text is a script.
//!
//! | bytes | meaning |
//! | --- | --- |
//! | `Q P B D E C F` | the client sends that message; letters behind it say what the server does with it: `s` succeed, `x` fail, `b` begin, `k` commit, `i` copy in, `o` copy out, `u` suspend, `n` nothing. A Query may have several |
//! | `S H X Y` | it sends Sync, Flush, Terminate, or a message of no known type |
//! | `d c f` | CopyData, CopyDone (`x` behind it fails them), CopyFail |
//! | `+ *` | its next message is 10 or 100 bytes longer |
//! | `w z` | it waits for the answer to its COPY; it closes its side |
//! | `> } ) ]` | of its bytes all, 1, 3, or 8 come to the proxy |
//! | `< { ( [` | of the server's bytes all, 1, 3, or 8 come to the proxy |
//! | `. ,` | the server reads one message, or all |
//! | <code>&#124;</code> | everybody goes on until nobody can |
//! | `N A V` | the server sends a notice, a notification, a changed setting |
//! | `h r g j` | the gate closes and clients wait, or are refused; it opens; it closes for transaction blocks alone |
//! | `e v` | the gate lets reads in alone; the server forgets that it was told to refuse writes |
//! | `t T` | 100 milliseconds, or 61 seconds pass |
//! | `=` | from here on sockets keep what they take until they are flushed, as encrypted ones do |
//! | `K p q` | a cancel request, the proxy's stop, an operator's kill |
//! | `a l` | a drain aborts the idle transaction in place, or frees the conversation that stands still |

use super::server::Does;

/// More instructions than this are not played.
const INSTRUCTIONS_MAX: usize = 400;

/// What happens next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Instruction {
    /// The client does something, as soon as it does not wait.
    Client(Act),
    /// So many bytes of the client come to the proxy.
    Forward(usize),
    /// So many bytes of the server come to the proxy.
    Answer(usize),
    /// The server reads so many messages.
    Read(usize),
    /// Everybody goes on until nobody can.
    Settle,
    /// The server sends a message of this type that nobody has asked for.
    Mention(u8),
    /// The gate closes; true when clients wait.
    Hold(bool),
    /// The gate begins a hold by keeping blocks alone; none of a model is seen to begin one.
    Stage,
    /// The gate lets reads in alone.
    ReadOnly,
    /// What was set for the session is reset.
    Reset,
    /// The gate opens.
    Open,
    /// Milliseconds pass.
    Pass(u64),
    /// Somebody wants something of the session.
    Signal(Signal),
    /// Sockets keep what they take until they are flushed.
    Collect,
}

/// What a client does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// Sends a message.
    Send(u8, Vec<Does>),
    /// Makes the next message so much longer.
    Lengthen(usize),
    /// Waits for the answer to its COPY.
    Wait,
    /// Closes its side.
    Leave,
}

/// What others want of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Cancel,
    Stop,
    Kill,
    Abort,
    Free,
}

/// Reads a script; bytes that mean nothing are skipped.
pub(crate) fn read(script: &[u8]) -> impl Iterator<Item = Instruction> {
    let mut rest = script;
    let next = move || loop {
        let (first, behind) = rest.split_first()?;
        rest = behind;
        if let Some(instruction) = instruction(*first, &mut rest) {
            return Some(instruction);
        }
    };
    std::iter::from_fn(next).take(INSTRUCTIONS_MAX)
}

fn instruction(byte: u8, rest: &mut &[u8]) -> Option<Instruction> {
    Some(match byte {
        b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'F' | b'S' | b'H' | b'X' | b'd' | b'c'
        | b'f' => Instruction::Client(Act::Send(byte, statements(rest))),
        b'Y' => Instruction::Client(Act::Send(b'y', Vec::new())),
        b'+' => Instruction::Client(Act::Lengthen(10)),
        b'*' => Instruction::Client(Act::Lengthen(100)),
        b'w' => Instruction::Client(Act::Wait),
        b'z' => Instruction::Client(Act::Leave),
        b'>' => Instruction::Forward(usize::MAX),
        b'}' => Instruction::Forward(1),
        b')' => Instruction::Forward(3),
        b']' => Instruction::Forward(8),
        b'<' => Instruction::Answer(usize::MAX),
        b'{' => Instruction::Answer(1),
        b'(' => Instruction::Answer(3),
        b'[' => Instruction::Answer(8),
        b'.' => Instruction::Read(1),
        b',' => Instruction::Read(usize::MAX),
        b'|' => Instruction::Settle,
        b'N' => Instruction::Mention(b'N'),
        b'A' => Instruction::Mention(b'A'),
        b'V' => Instruction::Mention(b'S'),
        b'h' => Instruction::Hold(true),
        b'r' => Instruction::Hold(false),
        b'j' => Instruction::Stage,
        b'e' => Instruction::ReadOnly,
        b'v' => Instruction::Reset,
        b'g' => Instruction::Open,
        b't' => Instruction::Pass(100),
        b'T' => Instruction::Pass(61_000),
        b'=' => Instruction::Collect,
        b'K' => Instruction::Signal(Signal::Cancel),
        b'p' => Instruction::Signal(Signal::Stop),
        b'q' => Instruction::Signal(Signal::Kill),
        b'a' => Instruction::Signal(Signal::Abort),
        b'l' => Instruction::Signal(Signal::Free),
        _ => return None,
    })
}

/// The letters behind a message.
fn statements(rest: &mut &[u8]) -> Vec<Does> {
    let mut does = Vec::new();
    while let Some((letter, behind)) = rest.split_first()
        && let Some(one) = statement(*letter)
    {
        does.push(one);
        *rest = behind;
    }
    does
}

fn statement(letter: u8) -> Option<Does> {
    let mut all = Does::ALL.into_iter();
    all.find(|does| does.letter() == char::from(letter))
}
