"""Chat: templates of checkpoints, prompts from messages, answers taken apart into thinking, text and tool calls."""
