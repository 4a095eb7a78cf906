"""The web application over a `Service`: the page, the JSON API and its documentation.

A refused request gets {"error": MESSAGE} with a 4xx status, or 503 when too many requests wait. The page loads only the
files in static/, nothing from other servers.
"""

import asyncio
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException
from torch import Tensor

from simcse_lit import __version__
from simcse_lit.config.schema import LimitsConfig, ServeConfig
from simcse_lit.encoding.texts import unencodable
from simcse_lit.errors import UserError
from simcse_lit.server.batcher import Busy
from simcse_lit.server.guard import Guard, error
from simcse_lit.server.service import Service
from simcse_lit.server.upload import uploaded

STATIC = Path(__file__).parent / "static"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")
MAX_HITS = 100


class EncodeRequest(BaseModel):
    """Sentences to encode."""

    sentences: list[str] = Field(examples=[["A man is cycling.", "Someone rides a bike."]])
    normalize: bool = Field(True, description="vectors of length 1")


class Vectors(BaseModel):
    """A vector for each sentence, in their order."""

    vectors: list[list[float]]
    dimension: int


class SimilarityRequest(BaseModel):
    """Sentences to compare with each other, or with others."""

    sentences: list[str] = Field(examples=[["A man is cycling.", "Someone rides a bike.", "It is raining."]])
    others: list[str] | None = Field(None, description="compare with these; without it, with each other")


class Similarities(BaseModel):
    """Cosine similarities: a row for each of `sentences`, a column for each of `others`."""

    similarities: list[list[float]]


class SearchRequest(BaseModel):
    """Queries to search for."""

    queries: list[str] = Field(examples=[["Someone rides a bike."]])
    top_k: int = Field(10, ge=1, le=MAX_HITS, description="maximum number of hits for each query")
    threshold: float = Field(-1, ge=-1, le=1, description="lowest cosine similarity of a hit")


class FoundSentence(BaseModel):
    """A sentence of the index."""

    id: int
    text: str
    score: float = Field(description="cosine similarity")


class Found(BaseModel):
    """The hits of each query, most similar first."""

    results: list[list[FoundSentence]]


class Refusal(BaseModel):
    """Why a request was refused."""

    error: str


def create_app(service: Service, config: ServeConfig) -> FastAPI:
    """Build the application.

    Args:
        service: encoder and index.
        config: checked configuration of `conf/serve.yaml`.
    """
    limits = config.limits
    app = FastAPI(
        title="simcse-lit",
        version=__version__,
        description="Sentence vectors, similarities and search.",
        docs_url=None,  # FastAPI's page loads scripts from another server; ours is static/docs.html
        redoc_url=None,
        responses={"4XX": {"model": Refusal}, "503": {"model": Refusal}},
        exception_handlers={RequestValidationError: _invalid, StarletteHTTPException: _refused, UserError: _mistaken},
    )
    app.add_middleware(
        Guard,
        hosts=LOOPBACK if config.host in LOOPBACK else (),
        body=int(limits.body_mb * 1e6),
        uploads={"/api/corpus": int(limits.upload_mb * 1e6)} if config.upload else {},
    )
    _add_encoder(app, service, limits)
    _add_corpus(app, service, config)
    _add_pages(app)
    return app


def _add_encoder(app: FastAPI, service: Service, limits: LimitsConfig) -> None:
    """Add the endpoints that encode sentences."""

    @app.post("/api/encode", summary="Vectors of sentences", response_model=Vectors)
    async def encode(request: EncodeRequest) -> dict[str, Any]:
        check("sentences", request.sentences, limits, limits.sentences)
        vectors_NH = await _encoded(service, request.sentences)
        if request.normalize:
            vectors_NH = F.normalize(vectors_NH, dim=-1)
        return {"vectors": vectors_NH.tolist(), "dimension": vectors_NH.shape[1]}

    @app.post("/api/similarity", summary="Cosine similarities of sentences", response_model=Similarities)
    async def similarity(request: SimilarityRequest) -> dict[str, Any]:
        check("sentences", request.sentences, limits, limits.matrix)
        others = request.others
        if others is not None:
            check("others", others, limits, limits.matrix)
        vectors_NH = F.normalize(await _encoded(service, [*request.sentences, *(others or [])]), dim=-1)
        own_NH = vectors_NH[: len(request.sentences)]
        other_NH = own_NH if others is None else vectors_NH[len(request.sentences) :]
        return {"similarities": (own_NH @ other_NH.T).clamp(-1, 1).tolist()}

    @app.post("/api/search", summary="The most similar sentences of the index", response_model=Found)
    async def search(request: SearchRequest) -> dict[str, Any]:
        check("queries", request.queries, limits, limits.sentences)
        index = service.index
        if index is None:
            raise HTTPException(409, "There is nothing to search yet. Upload a corpus, or wait until it is encoded.")
        hits = await run_in_threadpool(index.search, await _encoded(service, request.queries, "query"), request.top_k)
        kept = [[hit for hit in row if hit.score >= request.threshold] for row in hits]
        return {"results": [[hit._asdict() for hit in row] for row in kept]}


def _add_corpus(app: FastAPI, service: Service, config: ServeConfig) -> None:
    """Add the endpoints that replace the corpus and report its progress."""
    file = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}

    if config.upload:

        @app.put(
            "/api/corpus",
            summary="Replace the searched corpus",
            status_code=202,
            openapi_extra={"requestBody": {"required": True, "content": file}},
        )
        async def upload(request: Request, name: str, column: str | None = None) -> dict[str, Any]:
            """Replace the corpus by the file in the body and encode it in the background; GET /health shows the progress.

            `name` is the file's name, whose ending gives the format: txt (a sentence a line), csv, tsv, jsonl or parquet.
            `column` is the column to read of a table with several.
            """
            texts = await run_in_threadpool(uploaded, await request.body(), name, column, config.limits)
            if not service.use_corpus(texts, Path(name).name):
                raise HTTPException(409, "Another corpus is being encoded. Try again when it is ready.")
            return {"sentences": len(texts)}

    @app.get("/health", summary="State of the server, its encoder and its corpus")
    async def health() -> dict[str, Any]:
        return {
            "status": "ok",
            "version": __version__,
            **service.about(),
            "upload": config.upload,
            "limits": vars(config.limits),
        }


def _add_pages(app: FastAPI) -> None:
    """Add the page, the documentation of the API, and the files of both."""

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        return FileResponse(STATIC / "docs.html")

    app.mount("/static", StaticFiles(directory=STATIC))


async def _encoded(service: Service, sentences: list[str], use: str = "text") -> Tensor:
    try:
        return await asyncio.wrap_future(service.batcher.submit(sentences, use))
    except Busy:
        raise HTTPException(503, "Too many requests are waiting. Try again later.", {"Retry-After": "1"}) from None


async def _invalid(request: Request, raised: RequestValidationError) -> JSONResponse:
    first = raised.errors()[0]
    if first["type"] == "json_invalid":
        return error(400, f"The body is not JSON: {first.get('ctx', {}).get('error', first['msg'])}.")
    where = ".".join(str(part) for part in first["loc"][1:])
    if not where and not request.headers.get("content-type", "").startswith("application/json"):
        return error(422, "The body is not sent as JSON. Send the header Content-Type: application/json.")
    return error(422, f"{where}: {first['msg']}." if where else f"The body: {first['msg']}.")


async def _refused(_: Request, raised: StarletteHTTPException) -> JSONResponse:
    return error(raised.status_code, str(raised.detail), **(raised.headers or {}))


async def _mistaken(_: Request, raised: UserError) -> JSONResponse:
    return error(400, str(raised))


def check(key: str, sentences: list[str], limits: LimitsConfig, most: int) -> None:
    """Refuse sentences that cannot be encoded, or that are too many or too long.

    Args:
        key: name of the field, for messages.
        sentences: value of the field.
        limits: limits of a sentence's length.
        most: maximum number of sentences.

    Raises:
        HTTPException: 413 if they are too many or too long, otherwise 422.
    """
    if not sentences:
        raise HTTPException(422, f"{key}: is empty. Give at least one sentence.")
    if len(sentences) > most:
        raise HTTPException(413, f"{key}: {len(sentences):,} sentences, but at most {most:,} are allowed.")
    for place, sentence in enumerate(sentences):
        if len(sentence) > limits.characters:
            raise HTTPException(
                413, f"{key}.{place}: {len(sentence):,} characters, but at most {limits.characters:,} are allowed."
            )
        reason = "is blank" if not sentence.strip() else unencodable(sentence)
        if reason:
            raise HTTPException(422, f"{key}.{place}: {reason}.")
