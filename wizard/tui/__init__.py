"""The wizard: a Textual face over the same steps that the commands take. Nothing is judged here."""
