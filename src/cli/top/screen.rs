//! The terminal while `pgdrain top` has it, and how it is given back whatever happens.

use std::io;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use super::view::Key;

/// The whole screen, in raw mode: dropped, the terminal is as it was before. A panic gives it back
/// too, before its message is printed.
pub(super) struct Screen(DefaultTerminal);

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn take() -> io::Result<Self> {
        ratatui::try_init().map(Self).inspect_err(|_error| {
            // It may be half taken.
            let _not_ours_any_more = ratatui::try_restore();
        })
    }

    /// Draws what has changed.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut ratatui::Frame)) -> io::Result<()> {
        self.0.draw(draw).map(|_shown| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Says why it cannot, and what is left then: `reset`.
        ratatui::restore();
    }
}

/// What comes from the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Key(Key),
    /// It has another size now.
    Resized,
}

/// Reads keys on a thread of its own, since a terminal is read by blocking. The thread ends with the
/// process, or with the reader after the next key; the feed ends when the terminal cannot be read.
pub(super) fn keys() -> io::Result<mpsc::Receiver<Input>> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::Builder::new()
        .name("keys".to_owned())
        .spawn(move || {
            while let Ok(event) = event::read() {
                if let Some(input) = input(&event)
                    && sender.blocking_send(input).is_err()
                {
                    return;
                }
            }
        })?;
    Ok(receiver)
}

fn input(event: &Event) -> Option<Input> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => Some(Input::Key(key_of(*key))),
        Event::Resize(..) => Some(Input::Resized),
        Event::Key(_)
        | Event::FocusGained
        | Event::FocusLost
        | Event::Mouse(_)
        | Event::Paste(_) => None,
    }
}

fn key_of(key: KeyEvent) -> Key {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    if control {
        return match key.code == KeyCode::Char('c') {
            true => Key::Interrupt,
            false => Key::Other,
        };
    }
    if key.code == KeyCode::Up {
        Key::Up
    } else if key.code == KeyCode::Down {
        Key::Down
    } else if key.code == KeyCode::Esc {
        Key::Leave
    } else {
        key.code.as_char().map_or(Key::Other, Key::Letter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart() {
        let key = |code, modifiers| key_of(KeyEvent::new(code, modifiers));
        assert_eq!(key(KeyCode::Up, KeyModifiers::NONE), Key::Up);
        assert_eq!(
            key(KeyCode::Char('y'), KeyModifiers::NONE),
            Key::Letter('y')
        );
        assert_eq!(
            key(KeyCode::Char('c'), KeyModifiers::CONTROL),
            Key::Interrupt
        );
        // Not a yes.
        assert_eq!(key(KeyCode::Char('y'), KeyModifiers::CONTROL), Key::Other);
        assert_eq!(key(KeyCode::Enter, KeyModifiers::NONE), Key::Other);
    }
}
