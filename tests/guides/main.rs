//! What the documents say is so: pieces of code are those of files that are compiled, commands name what there is, links lead
//! somewhere, on a code host and in rustdoc, and no knob and no kind of error is left out.

mod commands;
mod documents;
mod links;
mod numbers;
mod pieces;
