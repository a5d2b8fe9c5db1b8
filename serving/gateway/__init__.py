"""The OpenAI-compatible door in front of vLLM."""
