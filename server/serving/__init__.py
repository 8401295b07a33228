"""Released adapters behind a port, in the dialects of OpenAI and vLLM.

`shelf/` has the base model, the adapters on it and the queue before them; `serving_app` puts the
routes together behind the `request_gate`; `serving_process` starts and ends it.
"""
