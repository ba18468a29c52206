"""What the tests ask, and what the simulator says to it."""

from pydantic import BaseModel

CHAT = "meta/llama-3.1-8b-instruct"
REASONING = "nvidia/nemotron-3-nano-30b-a3b"
EMBEDDING = "nvidia/llama-nemotron-embed-1b-v2"
RANKING = "nvidia/llama-nemotron-rerank-1b-v2"
QUESTION = "Paris is the capital of France. What is the capital of France?"
ANSWER = "Based on the text given: Paris is the capital of France."
PERSON_TEXT = "Ada Lovelace is 36 years old and lives in London."
PASSAGES = ["apples and pears", "How to read csv files"]


class Person(BaseModel):
    """Somebody of whom a text tells name and age."""

    name: str
    age: int


ADA = Person(name="Ada Lovelace", age=36)


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"It is sunny in {city}."


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b
