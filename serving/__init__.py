"""The gateway in front of vLLM, and the rollout that moves traffic to adapters."""
