"""The demo: simulated people use a real model, and the loop makes it better while one watches."""
