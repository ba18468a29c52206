"""What servers and programs write in these formats: a fuzzer puts it together faster than it would find it."""

# fmt: off
WORDS: dict[str, list[str]] = {
    "stream": [
        "data: ", "data:", "\n\n", "\r\n\r\n", "\r", "event: error\n", ": ping", "[DONE]", "id: 1", "retry: 1",
        "\ufeff", '{"choices":[{"index":0,"delta":{"content":"x"}}]}', '"finish_reason":"stop"',
        '"reasoning_content":"', "<think>", "</think>",
        '"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]', '"usage":{"total_tokens":1}',
        '{"error":{"message":"m","code":500}}', '"logprobs":{"content":[]}', "\\ud83d", "\\ude42", "null", "\u2028",
        '"refusal":"', '"delta":', '"message":', '"choices":', '"index":', '"content":', '"text":', "ÿ", "true",
        "1e400", '"object":"error"',
    ],
    "json_body": [
        "\\ud83d", "\\uDE42", "\ufeff", "NaN", "Infinity", "1e400", "-0", "null", "true", "[[", "]]", '{"a":',
        '"error"', "18446744073709551616", "\\u0000", '"message":', '"code":', '"choices":',
    ],
    "faults": [
        '{"error":{"message":"', '"code":', '"type":', '"param":', '"detail":[{"loc":["body","x"],"msg":"m"}]',
        '"title":', '"status":', '"requestId":"', "<html>", "<script", "</script>", '"errors":[',
        '"fault":{"faultstring":"', "Wed, 21 Oct 2099 07:28:00 GMT", "1e9", "nan", "model_not_found",
        "maximum context length is", "null", '"object":"error"', "field required", "->", "(parameter=",
        "Unsupported parameter(s): `", "\\ud800", "[[[[",
    ],
    "rows": [
        "id,text\n", '"', '""', "\r\n", "\r", ",", '{"id":"1","text":"x"}', '"text":', '"id":', "\ufeff", "\\ud800",
        "null", "text,id\n", '\n"a', '",', "\x00", "\x1f\x8b\x08\x00",
    ],
    "requests": [
        '{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m"}}', '"custom_id":',
        '"url":', '"body":', '"/v1/embeddings"', '"stream":true', "1e400", "12345678901234567890123",
        "0.12345678901234567890", "\\ud800", "null", '"body":{', "\ufeff", "NaN", '"model":', "\\u0062ody", " \t",
    ],
    "answers": [
        '{"id":"batch_req_1","custom_id":"a","response":{"status_code":200},"error":null}\n',
        '"error":{"code":"ConfigurationError"}', '{"index":0,"id":"a","', "null", "\n", "\x00", '"status_code":',
        "true", '"request":"', '"finish_reason":"length"',
    ],
}
