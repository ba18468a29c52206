"""Agents over a NIM: create_agent with tools, with structured output, and the same loop drawn by hand in LangGraph.

NVIDIA_BASE_URL=http://localhost:8000 python langchain_agents.py
"""

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import BaseModel

from nimclient.integrations.langchain import ChatNVIDIA

MODEL = "nvidia/nemotron-3-nano-30b-a3b"
llm = ChatNVIDIA(model=MODEL, max_completion_tokens=500)


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Sum(BaseModel):
    """The result of an addition."""

    a: int
    b: int


def agent() -> None:
    """An agent calls the tool and answers; its steps and its words can be streamed."""
    helper = create_agent(llm, tools=[add], system_prompt="Use the tools.")
    question = {"messages": [HumanMessage("Please add 2 and 3.")]}
    answer = helper.invoke(question)
    print([message.type for message in answer["messages"]])
    print(answer["messages"][-1].content)
    for chunk, _ in helper.stream(question, stream_mode="messages"):
        print(chunk.content, end="|")
    print()


def structured_agent() -> None:
    """The answer is an instance of a class: the model is known to take a JSON schema, so that no extra tool is needed."""
    reader = create_agent(llm, tools=[], response_format=Sum)
    answer = reader.invoke({"messages": [HumanMessage("Which numbers are added in 2 + 3?")]})
    print(repr(answer["structured_response"]))


def graph() -> None:
    """The loop of model and tools, as a graph of one's own; the model keeps thinking off while it has tools."""
    model = llm.bind_tools([add]).with_thinking_mode(enabled=False)

    def call_model(state: MessagesState) -> dict[str, list[object]]:
        return {"messages": [model.invoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("model", call_model)
    builder.add_node("tools", ToolNode([add]))
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", tools_condition)
    builder.add_edge("tools", "model")
    answer = builder.compile().invoke({"messages": [HumanMessage("Please add 4 and 5.")]})
    print(answer["messages"][-1].content)


if __name__ == "__main__":
    agent()
    structured_agent()
    graph()
