"""Real servers for the tests: NVIDIA Dynamo's frontend with its mocker, and vLLM on the CPU; each in a venv of its own."""
