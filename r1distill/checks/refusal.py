"""Did the teacher answer at all? Refusals, empty talk, and thoughts without a thought.

In: how the answer begins, and the reasoning. Only the beginning counts, and only the fixed phrases of a refusal ("I can't
help with that", not "I can't find an integer"): an ordinary answer may say "cannot" or "sorry" anywhere.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from pydantic import Field

from r1distill.checks.base import Check, Judgement, Value, failed, passed
from r1distill.records import Prompt, Trace

HEAD = 240
"""Characters of the answer that are looked at."""
LEAD = r"(?:^|[.!?;,:。！，]\s{0,3}|\n|\b(?:but|however|pero|mais|aber|mas)\s)\s{0,3}[\"'*_]{0,2}"
"""A refusal begins the answer, a sentence or a clause of it."""
REFUSALS = (
    r"(?:i|we)(?: am|'m|’m)? (?:really |truly |so )?(?:sorry,? (?:but )?)?(?:i )?"
    r"(?:can['’]?t|cannot|can not|won['’]?t|will not|am not able to|am unable to|['’]m not able to"
    r"|['’]m unable to|must decline to)"
    r" (?:help(?! but\b| \w+ing\b)|assist|comply|fulfil|fulfill|engage with (?:that|this)"
    r"|(?:provide|give|offer|share) (?:that|this|any|you|assistance|help|advice"
    r"|information|instructions)|answer (?:that|this|your)|discuss (?:that|this)|do that for you|process (?:that|this|your)"
    r"|continue with (?:that|this))\b",
    r"(?:i['’]m|i am) (?:just |only )?an? (?:ai|artificial intelligence|(?:large )?language model)\b",
    r"as an? (?:ai|artificial intelligence|large language model)\b(?: (?:language )?(?:model|assistant))?",
    r"as a language model\b",
    r"i must (?:respectfully )?decline\b",
    # Spanish, Portuguese, French, Italian, German
    r"(?:lo siento,? (?:pero )?)?no puedo (?:ayudar|asistir|proporcionar|cumplir)",
    r"como (?:modelo de lenguaje|una? (?:ia|inteligencia artificial)|um modelo de linguagem|uma ia)",
    r"(?:desculpe,? (?:mas )?)?não posso (?:ajudar|fornecer|atender|auxiliar)",
    r"je (?:suis désolée?,? (?:mais )?je )?ne (?:peux|puis) pas (?:vous |t['’])?"
    r"(?:aider|assister|fournir|répondre à (?:cette|votre))",
    r"en tant qu['’](?:ia|intelligence artificielle)|en tant que modèle de langage",
    r"(?:mi dispiace,? (?:ma )?)?non posso (?:aiutar|fornir|assister)|come modello linguistico",
    r"ich (?:kann|darf) (?:ihnen |dir )?(?:dabei|damit|hierbei) (?:leider )?nicht (?:helfen|weiterhelfen)",
    r"(?:leider )?(?:kann|darf) ich (?:ihnen |dir )?(?:dabei|damit|hierbei|bei dieser anfrage) "
    r"(?:leider )?nicht (?:helfen|weiterhelfen)",
    r"als (?:ki|künstliche intelligenz|sprachmodell|ki-sprachmodell)\b",
    # Russian
    r"(?:я )?не могу (?:вам |тебе )?(?:помочь|предоставить|выполнить эт|ответить на эт)"
    r"|как (?:языковая модель|искусственный интеллект)",
    # Chinese, simplified and traditional; Japanese; Korean
    r"(?:(?:很|非常)?(?:抱歉|对不起|對不起)[，,]?)?我(?:无法|無法|不能|没办法|沒辦法)(?:为您|為您|为你|為你|给您|给你)?(?:提供(?:帮助|幫助|相关|相關|该|此|这|這)"
    r"|帮助[您你]|幫助[您你]|协助|協助|满足(?:您|你|该|此|这)|回答(?:您|你|该|此|这个|這個)的?(?:问题|問題|请求))",
    r"(?:作为|作為|我(?:只)?是)一?[个個名]?(?:AI|ai|人工智能|人工智慧|(?:大型?)?语言模型|(?:大型)?語言模型)",
    r"(?:申し訳(?:ありません|ございません)が[、,]?)?(?:その|この)?(?:ご)?(?:要望|依頼|質問|リクエスト)?に?(?:は)?"
    r"(?:お手伝い|お答え|お応え|対応)(?:することは|は)?(?:できません|できかねます|いたしかねます)",
    r"AI(?:言語モデル)?として",
    r"(?:죄송하지만|죄송합니다)[.,]? ?.{0,12}(?:도와드릴 수 없|도울 수 없|제공할 수 없|답변(?:해 드릴|드릴|할) 수 없)"
    r"|AI 언어 모델로서",
)
EMPTY_TALK = (
    r"(?:sure|certainly|of course|okay|ok|hello|hi|great)?[!,. ]{0,3}"
    r"(?:how (?:can|may) i (?:help|assist) you|what can i (?:help|do))\b",
    r"(?:please|could you(?: please)?|can you(?: please)?) (?:provide|share|send|give)(?: me)?(?: with)? (?:the|your|more) "
    r"(?:full |complete |actual )?(?:question|problem|equation|details|context|information|code)\b",
    r"(?:it (?:looks|seems) like|it appears(?: that)?) (?:your|the) (?:message|question|problem|prompt) (?:is|was|got|may be) "
    r"(?:empty|missing|incomplete|cut off|blank)",
    r"(?:请|請)(?:您|你)?(?:提供|告诉我|告訴我|给出|給出)(?:您|你)?(?:完整|具体|具體|更多)的?(?:问题|問題|题目|題目|信息|内容|資訊)",
    r"(?:您好|你好)[！!，,。]?(?:请问)?(?:有什么|我能|我可以)(?:可以)?(?:帮|为)(?:助)?[您你]",
)  # fmt: skip
PATTERNS = (
    ("refusal", re.compile(f"{LEAD}(?:{'|'.join(REFUSALS)})", re.IGNORECASE)),
    ("empty talk", re.compile(f"{LEAD}(?:{'|'.join(EMPTY_TALK)})", re.IGNORECASE)),
)
WORD = re.compile(r"\w+")
LONG_WORD = 12
"""Characters of one word; a longer run of letters counts as several, since Chinese and Japanese put no spaces."""
WORDS_COUNTED = 20
"""Words of the reasoning that are counted at most: enough to tell a thought from none."""


class Refusal(Check):
    """Keeps traces in which the teacher took the question up."""

    min_thought_words: int = Field(default=2, ge=0, le=WORDS_COUNTED)
    """Fewest words (or numbers) of a chain of thought: fewer are an empty thought; 0 accepts traces without one."""

    anywhere: ClassVar[bool] = True
    measure_settings: ClassVar[tuple[str, ...] | None] = ()

    def reads(self, prompt: Prompt) -> Any:
        """Nothing."""
        return None

    def measure(self, prompt: Prompt, trace: Trace) -> Value:
        """{"kind": "refusal", "empty talk" or null; "thought_words": at most 20}."""
        return {"kind": refusal_kind(trace.answer), "thought_words": thought_words(trace.reasoning)}

    def judge(self, value: Value) -> Judgement:
        """The kind of refusal, else an empty thought; an answer without any text is the format check's business."""
        if value["kind"]:
            return failed(value["kind"])
        if value["thought_words"] < self.min_thought_words:
            return failed("empty thought", value["thought_words"])
        return passed()


def refusal_kind(answer: str) -> str | None:
    """What the answer begins as: "refusal", "empty talk" or None."""
    head = answer[: HEAD + 200].lstrip()[:HEAD]
    return next((kind for kind, pattern in PATTERNS if pattern.search(head)), None)


def thought_words(reasoning: str) -> int:
    """Words of the reasoning, counted up to WORDS_COUNTED; blank tags and "..." have none."""
    words = 0
    for found in WORD.finditer(reasoning):
        words += 1 + (found.end() - found.start() - 1) // LONG_WORD
        if words >= WORDS_COUNTED:
            return WORDS_COUNTED
    return words
