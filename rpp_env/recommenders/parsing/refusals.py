"""Recognises refusals by the words with which LLMs begin them, in the languages of `REFUSALS`."""

import re
from collections.abc import Mapping
from typing import Final

OPENING_CHARACTERS: Final = 200

# Regular expressions by ISO 639-1 code. They match only words that a recommendation does not use.
REFUSALS: Final[Mapping[str, str]] = {
    "en": r"\b(?:sorry|apologi[sz]e|unable to|not able to|as an ai|cannot|can['\u2019]?t"
    r"|won['\u2019]t)\b",
    "de": r"tut mir leid|leider (?:kann|darf|ist es mir)|kann ich (?:nicht|kein)"
    r"|nicht in der lage|als (?:ki|sprachmodell)\b",
    "fr": r"désolé|regrette|je ne (?:peux|suis|saurais)|pas en mesure|modèle de langage",
    "es": r"lo siento|lamento|no puedo|no me es posible|modelo de lenguaje",
    "pt": r"desculpe|lamento|sinto muito|não (?:posso|consigo)|modelo de linguagem",
    "it": r"mi dispiace|spiacente|non (?:posso|riesco a)|non sono in grado|modello linguistico",
    "nl": r"het spijt me|helaas kan|niet in staat|ik kan\b[^.!?]{0,80}\bniet\b",
    "sv": r"tyvärr|ledsen|kan inte|inte möjligt",
    "da": r"beklager|desværre|kan ikke",  # and Norwegian
    "fi": r"pahoittelen|valitettavasti|en voi\b|en pysty",
    "pl": r"przepraszam|przykro mi|niestety|nie mogę|nie jestem w stanie",
    "cs": r"omlouvám se|bohužel|je mi líto|nemohu|nemůžu",
    "ro": r"îmi pare rău|din păcate|nu pot\b",
    "hu": r"sajnálom|sajnos|nem tudo[km]|nem áll módomban",
    "tr": r"üzgünüm|özür dilerim|maalesef|mümkün değil",
    "vi": r"xin lỗi|rất tiếc|không thể",
    "id": r"\bmaaf|tidak (?:dapat|bisa)",  # and Malay
    "ru": r"извините|простите|к сожалению|сожалею|не могу|не в состоянии",
    "uk": r"вибачте|перепрошую|на жаль|не можу",
    "el": r"λυπάμαι|συγγνώμη|δεν μπορώ",
    "zh": r"抱歉|[对對]不起|[很非]?[常]?[遗遺]憾|[无無]法[对對为為提进進给給排]|我(?:不能|[无無]法)"
    r"|作[为為](?:一[个個])?(?:ai|人工智[能慧]|[语語]言模型)",
    "ja": r"申し訳|すみません|ごめんなさい|できません|できかね|恐れ入りますが",
    "ko": r"죄송|미안|유감|할 수 없|수 없습니다|어렵습니다",
    "hi": r"क्षमा|माफ़|माफ|खेद|नहीं कर सक|असमर्थ",
    "bn": r"দুঃখিত|ক্ষমা|পারব না|পারছি না",
    "th": r"ขออภัย|ขอโทษ|ไม่สามารถ",
    "ar": r"عذر|آسف|أعتذر|نعتذر|للأسف|لا أستطيع|لا يمكنني|لا أقدر",
    "fa": r"متأسف|متاسف|ببخشید|نمی\s?توانم",
    "he": r"מצטער|סליחה|לא יכול|איני יכול",
}
_REFUSAL: Final = re.compile("|".join(f"(?:{words})" for words in REFUSALS.values()), re.IGNORECASE)
_OPTIONAL_MARKS: Final = re.compile("[\u0640\u064b-\u0652]")  # of Arabic: vowels, tatweel


def is_refusal(text: str) -> bool:
    """Whether a text begins with a refusal: one of the words is in its first 200 characters."""
    return _REFUSAL.search(_OPTIONAL_MARKS.sub("", text[:OPENING_CHARACTERS])) is not None
