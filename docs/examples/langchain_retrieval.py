"""Retrieval with NIMs: vector stores, a reranker that compresses, answers grounded in what was found.

NVIDIA_BASE_URL=http://localhost:8000 python langchain_retrieval.py
"""

from operator import itemgetter

from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_community.vectorstores import FAISS
from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from nimclient.integrations.langchain import ChatNVIDIA, NVIDIAEmbeddings, NVIDIARerank

FACTS = [
    "Harrison worked at Kensho before he wrote LangChain.",
    "Komodo dragons are the largest lizards.",
    "A white dwarf is what a star like the Sun becomes.",
    "Coral reefs are built by small animals.",
]
embedder = NVIDIAEmbeddings(model="nvidia/llama-nemotron-embed-1b-v2", truncate="END")
reranker = NVIDIARerank(model="nvidia/llama-nemotron-rerank-1b-v2", top_n=2)
llm = ChatNVIDIA(model="nvidia/nemotron-3-nano-30b-a3b", max_completion_tokens=200)


def stores() -> None:
    """FAISS and the store in memory find the text that speaks of the question."""
    for store in (FAISS.from_texts(FACTS, embedder), InMemoryVectorStore.from_texts(FACTS, embedder)):
        (found,) = store.as_retriever(search_kwargs={"k": 1}).invoke("Which lizards are the largest?")
        print(type(store).__name__, found.page_content)


def compression() -> None:
    """What a store finds is read again by a reranker, which keeps the best two."""
    base = FAISS.from_texts(FACTS, embedder).as_retriever(search_kwargs={"k": 4})
    retriever = ContextualCompressionRetriever(base_compressor=reranker, base_retriever=base)
    for document in retriever.invoke("What happens to stars?"):
        print(round(document.metadata["relevance_score"], 2), document.page_content)


def grounded() -> None:
    """A chain that answers from what was found; then in the language that is asked for."""
    retriever = InMemoryVectorStore.from_documents([Document(fact) for fact in FACTS], embedder).as_retriever()
    prompt = ChatPromptTemplate([("system", "Answer from this only:\n{context}"), ("user", "{question}")])
    chain = {"context": retriever, "question": RunnablePassthrough()} | prompt | llm | StrOutputParser()
    print(chain.invoke("Where did Harrison work?"))
    prompt = ChatPromptTemplate(
        [("system", "Answer from this only, in {language}:\n{context}"), ("user", "{question}")]
    )
    fields = {
        "context": itemgetter("question") | retriever,
        "question": itemgetter("question"),
        "language": itemgetter("language"),
    }
    chain = fields | prompt | llm | StrOutputParser()
    print(chain.invoke({"question": "Where did Harrison work?", "language": "Italian"}))


if __name__ == "__main__":
    stores()
    compression()
    grounded()
