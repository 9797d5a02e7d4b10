"""Asks through Envoy with OpenAI's SDK, and prints what the cache says. Only `base_url` differs from asking OpenAI."""

from __future__ import annotations

import os
import sys

from openai import OpenAI

client = OpenAI(base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:10000/v1"), api_key="sk-demo")
question = " ".join(sys.argv[1:]) or "What is a star?"
raw = client.chat.completions.with_raw_response.create(model="demo", messages=[{"role": "user", "content": question}])
print(raw.headers.get("x-ai-cache-status"), raw.headers.get("x-ai-cache-age", ""))
print(raw.parse().choices[0].message.content)
